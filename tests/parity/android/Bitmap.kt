package android.graphics

/** As much of Android's class as the snippet uses: pixels 0xAARRGGBB, and a nearest-neighbour resize. */
class Bitmap(val width: Int, val height: Int, private val pixels: IntArray) {
    fun getPixels(into: IntArray, offset: Int, stride: Int, x: Int, y: Int, width: Int, height: Int) {
        for (row in 0 until height) for (column in 0 until width) {
            into[offset + row * stride + column] = pixels[(y + row) * this.width + x + column]
        }
    }

    companion object {
        @JvmStatic
        fun createScaledBitmap(source: Bitmap, width: Int, height: Int, filter: Boolean): Bitmap {
            check(filter) { "expected a filtered resize" }
            return Bitmap(width, height, IntArray(width * height) {
                val y = it / width * source.height / height
                source.pixels[y * source.width + it % width * source.width / width]
            })
        }
    }
}
