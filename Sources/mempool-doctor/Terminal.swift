// What is known about the terminal: colour, width, character set.

import ArgumentParser
import Glibc
import MempoolReporters

/// The value of `--color`.
enum ColorChoice: String, CaseIterable, ExpressibleByArgument {
    /// On a terminal, unless NO_COLOR or TERM says otherwise.
    case auto
    case always
    case never
}

/// Facts about the terminal and the environment that shape text.
enum Terminal {
    /// Columns of text that goes to a file or a pipe.
    static let defaultWidth = 100

    /// A variable's value; an empty one counts as unset, as NO_COLOR and the locale variables have it.
    static func variable(_ name: String) -> String? {
        guard let value = getenv(name), value.pointee != 0 else { return nil }
        return String(cString: value)
    }

    /// Whether `descriptor` is a terminal that understands control sequences.
    static func isCapable(_ descriptor: Int32) -> Bool {
        isatty(descriptor) == 1 && variable("TERM") != "dumb"
    }

    /// Whether the locale's character set is UTF-8: the first of LC_ALL, LC_CTYPE and LANG that is set decides.
    static var isUnicode: Bool {
        let locale = variable("LC_ALL") ?? variable("LC_CTYPE") ?? variable("LANG") ?? ""
        // language_TERRITORY.charset@modifier
        let charset = locale.split(separator: ".").last?.split(separator: "@").first ?? ""
        return ["UTF-8", "UTF8"].contains(charset.uppercased())
    }

    /// Columns of the terminal behind `descriptor`.
    static func width(of descriptor: Int32) -> Int {
        var size = winsize()
        guard ioctl(descriptor, UInt(TIOCGWINSZ), &size) == 0, size.ws_col > 0 else { return defaultWidth }
        return Int(size.ws_col)
    }

    /// The style of text written to stdout, or to a file if `toFile`.
    ///
    /// An explicit `--color` wins over NO_COLOR, which is a default for all programs.
    static func style(color: ColorChoice, toFile: Bool) -> TextStyle {
        let isTerminal = !toFile && isCapable(STDOUT_FILENO)
        let useColor =
            switch color {
            case .always: true
            case .never: false
            case .auto: isTerminal && variable("NO_COLOR") == nil
            }
        return TextStyle(
            color: useColor,
            width: isTerminal ? width(of: STDOUT_FILENO) : defaultWidth,
            unicode: isUnicode
        )
    }
}
