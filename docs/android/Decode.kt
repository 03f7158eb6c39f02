package solov2edge

import kotlin.math.exp
import kotlin.math.ln

/** What decoding needs to know of a network; all of it stands in the artefact's manifest. */
class Network(
    /** Cells per side of each level's grid, finest level first. */
    val grids: IntArray,
    /** Stride of each level: a mask of at most as many quarter-scale pixels is dropped. */
    val strides: IntArray,
    val classes: Int,
    val maskChannels: Int,
    val inputHeight: Int,
    val inputWidth: Int,
)

/** How raw outputs become instances; the defaults are the reference's. */
class Options(
    val scoreThreshold: Float = 0.1f,
    val keepThreshold: Float = 0.05f,
    val maskThreshold: Float = 0.5f,
    val maxCandidates: Int = 500,
    val maxInstances: Int = 100,
    /** Gaussian decay exp(-sigma iou^2), or linear decay 1 - iou. */
    val gaussian: Boolean = true,
    val sigma: Float = 2f,
)

/** One object: the box left..right, top..bottom (ends exclusive) in frame pixels holds the row-major [mask]. */
class Instance(
    val score: Float,
    val label: Int,
    val left: Int,
    val top: Int,
    val right: Int,
    val bottom: Int,
    val mask: BooleanArray,
)

/**
 * Decodes SOLOv2's raw outputs, step by step as the Python runtime does. Not thread-safe: buffers are reused.
 *
 * 1. Candidates: (cell, class) scores above the threshold that no left, upper or upper-left neighbour exceeds.
 * 2. Their masks at quarter scale by dynamic convolution; a mask stays if its area exceeds its level's stride.
 * 3. Score times maskness, the mean probability over the mask.
 * 4. Matrix NMS on the best candidates; scores below the keep threshold go.
 * 5. Masks of the best, resized to the frame.
 */
class Decoder(private val network: Network, private val options: Options = Options()) {
    private val height = network.inputHeight / 4
    private val width = network.inputWidth / 4
    private val cells = network.grids.sumOf { it * it }
    private val logits = FloatArray(height * width)
    private val bound = ln(options.maskThreshold / (1 - options.maskThreshold))

    private class Candidate(val cell: Int, val label: Int, val score: Float, val stride: Int)

    /** A binary mask at quarter scale, one bit per pixel, with its box (ends exclusive). */
    private class Quarter(val bits: LongArray, val area: Int, val maskness: Float, val box: IntArray)

    private class Scored(val candidate: Candidate, val quarter: Quarter, val score: Float)

    /**
     * Returns the instances of one frame, scores falling.
     *
     * @param classScores (cells, classes) in [0, 1], row-major, as the output `class_scores` holds them.
     * @param kernels (cells, maskChannels), output `kernels`.
     * @param maskFeatures (maskChannels, inputHeight / 4, inputWidth / 4), output `mask_features`.
     * @param geometry how the frame became the network's input.
     */
    fun decode(
        classScores: FloatArray, kernels: FloatArray, maskFeatures: FloatArray, geometry: Geometry,
    ): List<Instance> {
        require(classScores.size == cells * network.classes) { "class scores do not belong to this network" }
        require(kernels.size == cells * network.maskChannels) { "kernels do not belong to this network" }
        require(maskFeatures.size == network.maskChannels * logits.size) { "mask features have another size" }

        val masks = HashMap<Int, Quarter>() // a cell has one mask, whatever its classes
        val scored = candidates(classScores).mapNotNull { candidate ->
            val quarter = masks.getOrPut(candidate.cell) { measure(candidate.cell, kernels, maskFeatures) }
            if (quarter.area <= candidate.stride) null
            else Scored(candidate, quarter, candidate.score * quarter.maskness)
        }
        val best = scored.sortedByDescending { it.score }.take(options.maxCandidates) // a stable sort
        val decayed = matrixNms(best)
        val kept = best.indices.filter { decayed[it] >= options.keepThreshold }
            .sortedByDescending { decayed[it] }.take(options.maxInstances)

        val rows = AxisTable(height, geometry.resizedHeight, geometry.frameHeight)
        val columns = AxisTable(width, geometry.resizedWidth, geometry.frameWidth)
        return kept.map { index ->
            convolve(best[index].candidate.cell, kernels, maskFeatures)
            val frameMask = upscale(logits, width, best[index].quarter.box, rows, columns, options.maskThreshold)
            frameMask.toInstance(decayed[index], best[index].candidate.label)
        }
    }

    private fun candidates(scores: FloatArray): List<Candidate> {
        val found = ArrayList<Candidate>()
        val classes = network.classes
        var first = 0
        for ((level, side) in network.grids.withIndex()) {
            for (row in 0 until side) for (column in 0 until side) for (label in 0 until classes) {
                val at = (first + row * side + column) * classes + label
                val score = scores[at]
                if (score <= options.scoreThreshold) continue
                val up = if (row > 0) side * classes else 0
                val left = if (column > 0) classes else 0
                if (score >= scores[at - up] && score >= scores[at - left] && score >= scores[at - up - left]) {
                    found.add(Candidate(first + row * side + column, label, score, network.strides[level]))
                }
            }
            first += side * side
        }
        return found
    }

    /** Computes the mask logits of a cell's kernel into [logits]: the dynamic 1x1 convolution. */
    private fun convolve(cell: Int, kernels: FloatArray, features: FloatArray) {
        logits.fill(0f)
        for (channel in 0 until network.maskChannels) {
            val weight = kernels[cell * network.maskChannels + channel]
            val plane = channel * logits.size
            for (pixel in logits.indices) logits[pixel] += weight * features[plane + pixel]
        }
    }

    private fun measure(cell: Int, kernels: FloatArray, features: FloatArray): Quarter {
        convolve(cell, kernels, features)
        val bits = LongArray((logits.size + 63) / 64)
        val box = intArrayOf(height, 0, width, 0) // top, bottom, left, right
        var area = 0
        var sum = 0.0
        for (y in 0 until height) for (x in 0 until width) {
            val pixel = y * width + x
            if (logits[pixel] <= bound) continue
            bits[pixel shr 6] = bits[pixel shr 6] or (1L shl (pixel and 63))
            box[0] = minOf(box[0], y)
            box[1] = maxOf(box[1], y + 1)
            box[2] = minOf(box[2], x)
            box[3] = maxOf(box[3], x + 1)
            sum += probability(logits[pixel])
            area++
        }
        return Quarter(bits, area, if (area > 0) (sum / area).toFloat() else 0f, box)
    }

    /** Returns the decayed scores of masks in falling order of score; see `runtime/matrix_nms.py` for the formula. */
    private fun matrixNms(masks: List<Scored>): FloatArray {
        val overlap = FloatArray(masks.size) // largest IoU with a better mask of the same class
        val decay = FloatArray(masks.size) { 1f }
        for (i in masks.indices) for (j in i + 1 until masks.size) {
            if (masks[i].candidate.label != masks[j].candidate.label) continue
            val iou = iou(masks[i].quarter, masks[j].quarter)
            if (iou == 0f) continue // a pair apart never decays
            overlap[j] = maxOf(overlap[j], iou)
            val ratio = when {
                options.gaussian -> exp(-options.sigma * (iou * iou - overlap[i] * overlap[i]))
                iou == 1f -> 0f
                else -> (1 - iou) / (1 - overlap[i])
            }
            decay[j] = minOf(decay[j], ratio)
        }
        return FloatArray(masks.size) { masks[it].score * decay[it] }
    }

    private fun iou(a: Quarter, b: Quarter): Float {
        if (a.box[0] >= b.box[1] || b.box[0] >= a.box[1] || a.box[2] >= b.box[3] || b.box[2] >= a.box[3]) return 0f
        val from = maxOf(a.box[0], b.box[0]) * width shr 6
        val to = (minOf(a.box[1], b.box[1]) * width + 63) shr 6
        var common = 0
        for (word in from until to) common += java.lang.Long.bitCount(a.bits[word] and b.bits[word])
        return (common.toDouble() / (a.area + b.area - common)).toFloat()
    }
}

/** Returns the sigmoid of a logit. */
internal fun probability(logit: Float): Float = 1f / (1f + exp(-logit))
