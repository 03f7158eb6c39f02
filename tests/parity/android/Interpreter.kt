package org.tensorflow.lite

import java.io.File
import java.nio.ByteBuffer

enum class DataType { FLOAT32, INT8 }

class Tensor(private val bytes: Int) {
    fun dataType(): DataType = DataType.FLOAT32

    fun numBytes(): Int = bytes
}

/**
 * As much of LiteRT's class as the snippet uses. The "model" is the path of a folder: its `<output>.bin` are replayed,
 * and what is fed is kept in `fed.bin`.
 */
class Interpreter(model: ByteBuffer, private val options: Options) : AutoCloseable {
    class Options {
        var threads = 0

        fun setNumThreads(threads: Int): Options = apply { this.threads = threads }
    }

    private val folder = File(ByteArray(model.remaining()).also { model.get(it) }.decodeToString())

    fun getOutputTensorFromSignature(name: String, key: String?): Tensor {
        check(key == null)
        return Tensor(recorded(name).length().toInt())
    }

    fun runSignature(inputs: Map<String, Any>, outputs: Map<String, Any>) {
        check(options.threads > 0)
        val fed = inputs.getValue("image") as ByteBuffer
        check(fed.isDirect && inputs.size == 1)
        File(folder, "fed.bin").writeBytes(ByteArray(fed.remaining()).also { fed.get(it) })
        for ((name, buffer) in outputs) {
            check((buffer as ByteBuffer).isDirect && buffer.position() == 0)
            buffer.put(recorded(name).readBytes())
        }
    }

    override fun close() {
        File(folder, "closed").writeText("")
    }

    private fun recorded(name: String) = File(folder, "$name.bin")
}
