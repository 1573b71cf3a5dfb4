// Numbers as people read them: byte sizes, durations, shares.

/// Forms of numbers in text.
package enum Units {
    /// `512 B`, `4 KiB`, `1.5 MiB`. For amounts in headings and tables; sentences about what happened have exact bytes in words.
    package static func bytes(_ count: Int) -> String {
        let names = ["B", "KiB", "MiB", "GiB", "TiB", "PiB", "EiB"]
        var value = Double(count)
        var index = 0
        // 1023.95 would be rounded to 1024.0 of the smaller unit.
        while value.magnitude >= 1023.95, index < names.count - 1 {
            value /= 1024
            index += 1
        }
        return index == 0 ? "\(Sentences.grouped(count)) B" : "\(decimal(value)) \(names[index])"
    }

    /// One decimal place, left out if it is zero.
    package static func decimal(_ value: Double) -> String {
        guard value.isFinite, value.magnitude < 1e15 else { return "?" }
        let tenths = Int((value * 10).rounded())
        let whole = tenths / 10
        let rest = tenths.magnitude % 10
        let sign = tenths < 0 && whole == 0 ? "-" : ""
        return sign + Sentences.grouped(whole) + (rest == 0 ? "" : ".\(rest)")
    }

    /// `35.0`: one decimal place always, for columns.
    package static func percent(_ value: Double?) -> String {
        guard let value, value.isFinite, value.magnitude < 1e12 else { return "-" }
        let tenths = Int((value * 10).rounded())
        return "\(tenths / 10).\(tenths.magnitude % 10)"
    }

    /// `350 ms`, `3.2 s`, `12 s`, `3 min 20 s`, `2 h 5 min`.
    package static func duration(_ seconds: Double) -> String {
        guard seconds.isFinite, seconds >= 0, seconds < 1e12 else { return "?" }
        if seconds < 0.9995 { return "\(Int((seconds * 1000).rounded())) ms" }
        if seconds < 9.95 { return decimal(seconds) + " s" }
        let whole = Int(seconds.rounded())
        if whole < 60 { return "\(whole) s" }
        if whole < 3600 { return "\(whole / 60) min \(whole % 60) s" }
        return "\(Sentences.grouped(whole / 3600)) h \(whole / 60 % 60) min"
    }

    /// A number in at most six characters, for tables that would be too wide: `12.3M`.
    package static func compact(_ number: Int) -> String {
        let magnitude = Double(number.magnitude)
        guard magnitude >= 1e5 else { return "\(number)" }
        let units: [(Double, String)] = [(1e3, "k"), (1e6, "M"), (1e9, "G"), (1e12, "T"), (1e15, "P"), (1e18, "E")]
        // 999.5k would be shown as 1000k.
        let unit = units.first { magnitude / $0.0 < 999.5 } ?? (1e18, "E")
        let scaled = Double(number) / unit.0
        return (scaled.magnitude < 100 ? decimal(scaled) : "\(Int(scaled.rounded()))") + unit.1
    }
}
