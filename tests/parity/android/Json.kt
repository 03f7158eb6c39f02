package org.json

/** As much of org.json, which Android has and the JDK has not, as the snippet uses. */
class JSONObject private constructor(private val values: Map<String, Any?>) {
    constructor(text: String) : this(Reader(text).value().let {
        @Suppress("UNCHECKED_CAST")
        it as Map<String, Any?>
    })

    fun getJSONObject(name: String): JSONObject {
        @Suppress("UNCHECKED_CAST")
        return JSONObject(values.getValue(name) as Map<String, Any?>)
    }

    fun getJSONArray(name: String): JSONArray = JSONArray(values.getValue(name) as List<*>)

    fun has(name: String): Boolean = name in values

    fun getString(name: String): String = values.getValue(name) as String

    fun getInt(name: String): Int = (values.getValue(name) as Double).toInt()
}

class JSONArray internal constructor(private val values: List<*>) {
    fun length(): Int = values.size

    fun getString(index: Int): String = values[index] as String

    fun getInt(index: Int): Int = getDouble(index).toInt()

    fun getDouble(index: Int): Double = values[index] as Double
}

private class Reader(private val text: String) {
    private var at = 0

    fun value(): Any? = when (val first = peek()) {
        '{' -> items('}') { string().also { expect(':') } to value() }.toMap()
        '[' -> items(']') { value() }
        '"' -> string()
        else -> word().let {
            when (it) {
                "null" -> null
                "true" -> true
                "false" -> false
                else -> it.toDoubleOrNull() ?: error("unexpected $first at $at")
            }
        }
    }

    private fun <T> items(end: Char, item: () -> T): List<T> {
        at++
        val found = ArrayList<T>()
        while (peek() != end) {
            found.add(item())
            if (peek() == ',') at++
        }
        at++
        return found
    }

    private fun string(): String {
        expect('"')
        val close = text.indexOf('"', at)
        return text.substring(at, close).also {
            check('\\' !in it) { "this reader knows no escapes" }
            at = close + 1
        }
    }

    private fun word(): String = text.substring(at).takeWhile { it.isLetterOrDigit() || it in "+-." }.also { at += it.length }

    private fun peek(): Char {
        while (text[at].isWhitespace()) at++
        return text[at]
    }

    private fun expect(character: Char) {
        check(peek() == character) { "expected $character at $at" }
        at++
    }
}
