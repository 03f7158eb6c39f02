package solov2edge

/**
 * The two-step bilinear resize along one axis, as three neighbouring weights per frame pixel: from quarter scale by 4
 * to the input, cut to the resized frame, then to the frame. Pixel centres lie at half pixels.
 */
internal class AxisTable(val quarter: Int, resized: Int, val frame: Int) {
    /** First quarter-scale tap of each frame pixel; never falls. */
    val first = IntArray(frame)

    /** Weights of taps first, first + 1 and first + 2; those beyond the edge are 0. */
    val weights = FloatArray(3 * frame)

    init {
        val inner = Taps(quarter, 4 * quarter)
        val outer = Taps(resized, frame)
        val exact = DoubleArray(quarter)
        for (pixel in 0 until frame) {
            exact.fill(0.0)
            val far = outer.weight[pixel]
            for ((middle, share) in listOf(outer.near[pixel] to 1f - far, outer.far[pixel] to far)) {
                exact[inner.near[middle]] += share.toDouble() * (1f - inner.weight[middle])
                exact[inner.far[middle]] += share.toDouble() * inner.weight[middle]
            }
            first[pixel] = exact.indexOfFirst { it > 0 }
            for (tap in 0 until 3) {
                val at = first[pixel] + tap
                if (at < quarter) weights[3 * pixel + tap] = exact[at].toFloat()
            }
        }
    }

    /** Returns the frame pixels, from..to (exclusive), that touch quarter-scale pixels start until stop. */
    fun reach(start: Int, stop: Int): IntRange {
        val from = first.indexOfFirst { it + 3 > start }
        val to = first.indexOfLast { it < stop }
        return if (from < 0) IntRange.EMPTY else from..to
    }

    private class Taps(size: Int, result: Int) {
        val near = IntArray(result)
        val far = IntArray(result)
        val weight = FloatArray(result)

        init {
            val step = size.toFloat() / result.toFloat() // in float32, as the reference computes it
            for (pixel in 0 until result) {
                val position = maxOf(step * (pixel + 0.5f) - 0.5f, 0f)
                near[pixel] = minOf(position.toInt(), size - 1)
                far[pixel] = minOf(near[pixel] + 1, size - 1)
                weight[pixel] = (position - near[pixel]).coerceIn(0f, 1f)
            }
        }
    }
}

/** A mask in frame pixels that covers [rows] x [columns]. */
internal class FrameMask(private val rows: IntRange, private val columns: IntRange, private val pixels: BooleanArray) {
    /** Cuts the mask to its foreground; an empty one has the box 0, 0, 0, 0. */
    fun toInstance(score: Float, label: Int): Instance {
        val width = columns.count()
        var (left, top, right, bottom) = listOf(Int.MAX_VALUE, Int.MAX_VALUE, 0, 0)
        for (at in pixels.indices) if (pixels[at]) {
            left = minOf(left, at % width)
            right = maxOf(right, at % width + 1)
            top = minOf(top, at / width)
            bottom = maxOf(bottom, at / width + 1)
        }
        if (right == 0) return Instance(score, label, 0, 0, 0, 0, BooleanArray(0))
        val cut = BooleanArray((bottom - top) * (right - left))
        for (y in top until bottom) {
            pixels.copyInto(cut, (y - top) * (right - left), y * width + left, y * width + right)
        }
        return Instance(
            score, label, columns.first + left, rows.first + top, columns.first + right, rows.first + bottom, cut,
        )
    }
}

/**
 * Resizes the probabilities of one mask to the frame and compares them with the threshold, around its box only.
 *
 * @param logits quarter-scale mask logits, row-major, [width] pixels a row.
 * @param box top, bottom, left, right of the pixels above the threshold, ends exclusive; beyond its reach a frame pixel
 *   is a mean of pixels below the threshold.
 */
internal fun upscale(
    logits: FloatArray, width: Int, box: IntArray, rows: AxisTable, columns: AxisTable, threshold: Float,
): FrameMask {
    val tall = rows.reach(box[0], box[1])
    val wide = columns.reach(box[2], box[3])
    if (tall.isEmpty() || wide.isEmpty()) return FrameMask(0 until 0, 0 until 0, BooleanArray(0))
    val top = rows.first[tall.first]
    val end = minOf(rows.first[tall.last] + 3, rows.quarter)
    val columnCount = wide.count()
    val stretched = FloatArray((end - top) * columnCount) // wide enough, not yet tall enough
    val above = FloatArray(width + 2)
    for (row in top until end) {
        // Interpolating p - t instead of p keeps plateaus of exactly t at exactly 0.
        for (x in 0 until width) above[x] = probability(logits[row * width + x]) - threshold
        for (x in wide) {
            var sum = 0f
            for (tap in 0 until 3) sum += columns.weights[3 * x + tap] * above[columns.first[x] + tap]
            stretched[(row - top) * columnCount + x - wide.first] = sum
        }
    }
    val pixels = BooleanArray(tall.count() * columnCount)
    for (y in tall) for (x in 0 until columnCount) {
        var sum = 0f
        for (tap in 0 until 3) {
            val row = rows.first[y] + tap
            if (row < end) sum += rows.weights[3 * y + tap] * stretched[(row - top) * columnCount + x]
        }
        pixels[(y - tall.first) * columnCount + x] = sum > 0
    }
    return FrameMask(tall, wide, pixels)
}
