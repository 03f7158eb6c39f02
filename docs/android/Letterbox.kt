package solov2edge

/**
 * Where a frame lies inside the network's input: scaled, at the top left, padded on the right and below. In pixels.
 */
data class Geometry(
    val frameHeight: Int,
    val frameWidth: Int,
    val resizedHeight: Int,
    val resizedWidth: Int,
    val inputHeight: Int,
    val inputWidth: Int,
)

/** Returns the largest scaling of a frame that fits into the input with its aspect kept. */
fun letterbox(frameHeight: Int, frameWidth: Int, inputHeight: Int, inputWidth: Int): Geometry {
    val factor = minOf(inputHeight.toDouble() / frameHeight, inputWidth.toDouble() / frameWidth)
    val height = maxOf((frameHeight * factor + 0.5).toInt(), 1)
    val width = maxOf((frameWidth * factor + 0.5).toInt(), 1)
    return Geometry(
        frameHeight, frameWidth, minOf(height, inputHeight), minOf(width, inputWidth), inputHeight, inputWidth,
    )
}

/**
 * Returns the network's `image` input, RGB bytes of 1 x inputHeight x inputWidth x 3.
 *
 * @param resized the frame after scaling: resizedHeight x resizedWidth pixels 0xAARRGGBB, as Bitmap.getPixels gives.
 * @param padding red, green and blue (0..255) of the padding: the network's mean colour, rounded.
 */
fun packImage(resized: IntArray, geometry: Geometry, padding: IntArray): ByteArray {
    require(resized.size == geometry.resizedHeight * geometry.resizedWidth) {
        "expected ${geometry.resizedHeight} x ${geometry.resizedWidth} pixels, got ${resized.size}"
    }
    val bytes = ByteArray(geometry.inputHeight * geometry.inputWidth * 3)
    var at = 0
    for (y in 0 until geometry.inputHeight) {
        for (x in 0 until geometry.inputWidth) {
            if (y < geometry.resizedHeight && x < geometry.resizedWidth) {
                val pixel = resized[y * geometry.resizedWidth + x]
                bytes[at++] = (pixel shr 16).toByte()
                bytes[at++] = (pixel shr 8).toByte()
                bytes[at++] = pixel.toByte()
            } else {
                for (channel in 0 until 3) bytes[at++] = padding[channel].toByte()
            }
        }
    }
    return bytes
}
