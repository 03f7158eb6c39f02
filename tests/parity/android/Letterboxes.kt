package solov2edge

/** Prints the geometry of each line "frame height, frame width, input height, input width" of the standard input. */
fun main() {
    for (line in generateSequence(::readLine)) {
        val (frameHeight, frameWidth, inputHeight, inputWidth) = line.split(" ").map { it.toInt() }
        val found = letterbox(frameHeight, frameWidth, inputHeight, inputWidth)
        println("${found.resizedHeight} ${found.resizedWidth}")
    }
}
