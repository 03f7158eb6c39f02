package solov2edge

import android.graphics.Bitmap
import java.io.DataOutputStream
import java.io.File
import java.nio.ByteBuffer

/**
 * Segments each folder given: `frame.txt` has height, width and options, `frame.bin` its pixels as BGR bytes,
 * `manifest.json` and `<output>.bin` what an artefact would give. Writes `instances.bin` in big-endian numbers: per
 * instance score, label, left, top, right, bottom and the mask's bytes.
 */
fun main(folders: Array<String>) {
    for (folder in folders.map(::File)) {
        val settings = File(folder, "frame.txt").readText().trim().split(" ")
        val (height, width) = settings.take(2).map { it.toInt() }
        val options = Options(
            scoreThreshold = settings[2].toFloat(),
            keepThreshold = settings[3].toFloat(),
            maskThreshold = settings[4].toFloat(),
            maxCandidates = settings[5].toInt(),
            maxInstances = settings[6].toInt(),
            gaussian = settings[7] == "gaussian",
        )
        val bgr = File(folder, "frame.bin").readBytes()
        val pixels = IntArray(height * width) {
            (bgr[3 * it + 2].toInt() and 255 shl 16) or (bgr[3 * it + 1].toInt() and 255 shl 8) or
                (bgr[3 * it].toInt() and 255)
        }
        val model = ByteBuffer.wrap(folder.path.encodeToByteArray())
        val instances = Solov2(model, File(folder, "manifest.json").readText(), options).use {
            it.segment(Bitmap(width, height, pixels))
        }
        DataOutputStream(File(folder, "instances.bin").outputStream().buffered()).use { out ->
            for (instance in instances) {
                out.writeFloat(instance.score)
                out.writeInt(instance.label)
                for (side in listOf(instance.left, instance.top, instance.right, instance.bottom)) out.writeInt(side)
                for (pixel in instance.mask) out.writeBoolean(pixel)
            }
        }
    }
}
