package solov2edge

import android.graphics.Bitmap
import java.nio.ByteBuffer
import java.nio.ByteOrder
import org.json.JSONArray
import org.json.JSONObject
import org.tensorflow.lite.DataType
import org.tensorflow.lite.Interpreter

/**
 * Segments camera frames with a .tflite artefact of solov2-edge. Use it from one thread, and close it.
 *
 * @param model the artefact, memory-mapped or in a direct buffer of native order.
 * @param manifest the text of the JSON file beside the artefact.
 */
class Solov2(
    model: ByteBuffer, manifest: String, options: Options = Options(), engine: Interpreter.Options = engineOptions(4),
) : AutoCloseable {
    private val root = JSONObject(manifest)
    private val spec = root.getJSONObject("spec")
    private val inputName = root.getJSONObject("input").getString("name")
    private val outputNames = root.getJSONArray("outputs").let { names -> List(names.length()) { names.getString(it) } }

    /** The names that [Instance.label] counts. */
    val classNames: List<String> =
        spec.getJSONArray("class_names").let { names -> List(names.length()) { names.getString(it) } }

    private val network = Network(
        grids = integers(spec.getJSONArray("grids")),
        strides = integers(spec.getJSONArray("strides")),
        classes = classNames.size,
        maskChannels = spec.getInt("mask_channels"),
        inputHeight = root.getJSONObject("input").getInt("height"),
        inputWidth = root.getJSONObject("input").getInt("width"),
    )
    private val padding = meanColour(spec)
    private val decoder = Decoder(network, options)
    private val interpreter = Interpreter(model, engine)
    private val input = direct(network.inputHeight * network.inputWidth * 3)
    private val outputs: Map<String, ByteBuffer>

    init {
        require(root.getJSONObject("input").getString("kind") == "image") { "convert with --input image" }
        require(!spec.has("kernel_size") && !spec.has("mask_features")) { "only plain kernels decode here" }
        // Without a signature's key, the interpreter takes the model's only one.
        outputs = outputNames.associateWith { name ->
            val tensor = interpreter.getOutputTensorFromSignature(name, null)
            require(tensor.dataType() == DataType.FLOAT32) { "$name holds ${tensor.dataType()}, expected FLOAT32" }
            direct(tensor.numBytes())
        }
    }

    /** Returns the objects of an upright frame of any size, scores falling, in its pixels. */
    fun segment(frame: Bitmap): List<Instance> {
        val geometry = letterbox(frame.height, frame.width, network.inputHeight, network.inputWidth)
        val resized = Bitmap.createScaledBitmap(frame, geometry.resizedWidth, geometry.resizedHeight, true)
        val pixels = IntArray(resized.width * resized.height)
        resized.getPixels(pixels, 0, resized.width, 0, 0, resized.width, resized.height)
        input.rewind()
        input.put(packImage(pixels, geometry, padding))
        input.rewind()
        outputs.values.forEach { it.rewind() }
        interpreter.runSignature(mapOf(inputName to input), outputs)
        val (classScores, kernels, maskFeatures) = outputNames.map { floats(outputs.getValue(it)) }
        return decoder.decode(classScores, kernels, maskFeatures, geometry)
    }

    override fun close() = interpreter.close()

    private fun floats(buffer: ByteBuffer): FloatArray {
        buffer.rewind()
        return FloatArray(buffer.remaining() / 4).also { buffer.asFloatBuffer().get(it) }
    }

    companion object {
        fun engineOptions(threads: Int): Interpreter.Options = Interpreter.Options().setNumThreads(threads)

        private fun direct(bytes: Int) = ByteBuffer.allocateDirect(bytes).order(ByteOrder.nativeOrder())

        private fun integers(array: JSONArray) = IntArray(array.length()) { array.getInt(it) }

        /** Returns the mean as red, green, blue 0..255: padded with it, the padding is close to 0 once normalised. */
        private fun meanColour(spec: JSONObject): IntArray {
            val mean = spec.getJSONArray("mean")
            val rgb = spec.getString("channel_order") == "rgb"
            return IntArray(3) { Math.rint(mean.getDouble(if (rgb) it else 2 - it)).toInt() }
        }
    }
}
