// Options shared by all commands that report, and where the report goes.

import ArgumentParser
import FoundationEssentials
import Glibc
import MempoolAnalysis
import MempoolReporters

/// The value of `--format`.
enum ReportFormat: String, CaseIterable, ExpressibleByArgument {
    case text
    case json
}

/// In which form a command writes its result, and where to.
struct OutputOptions: ParsableArguments {
    @Option(help: "Write text for people, or one JSON object with every fact.")
    var format: ReportFormat = .text

    @Option(
        name: [.long, .customShort("o")],
        help: ArgumentHelp("Write to FILE instead of stdout.", valueName: "file")
    )
    var output: String?

    @Option(
        help: ArgumentHelp(
            "Colour the text.",
            discussion: "auto: on a terminal, unless NO_COLOR is set and not empty, or TERM is dumb.",
            valueName: "when"
        )
    )
    var color: ColorChoice = .auto
}

/// How a report is written.
struct ReportOptions: ParsableArguments {
    @OptionGroup(title: "Report options")
    var output: OutputOptions

    // Unconditional, here and at other numbers, so that one below 0 is refused for what it is.
    @Option(
        parsing: .unconditional,
        help: ArgumentHelp(
            "Show the N worst findings as text instead of 10; 0 shows all. JSON has all of them always.",
            valueName: "n"
        )
    )
    var maxFindings: Int?

    @Option(
        help: ArgumentHelp(
            "Show paths below DIR relative to it; the current directory if not given.",
            valueName: "dir"
        )
    )
    var sourceRoot: String?

    func validate() throws {
        if let maxFindings, maxFindings < 0 {
            throw ValidationError("--max-findings must be 0 or more, not \(maxFindings)")
        }
    }

    /// Throws `DoctorFailure` with status 64 if `--source-root` is no directory: a misspelt one would change nothing.
    fileprivate func checkSourceRoot() throws(DoctorFailure) {
        guard let sourceRoot else { return }
        var status = stat()
        let error: SystemError? = stat(sourceRoot, &status) == 0 ? nil : .last
        guard error != nil || status.st_mode & S_IFMT != S_IFDIR else { return }
        throw DoctorFailure(
            "--source-root: " + (error.map { "cannot use \(sourceRoot): \($0)" } ?? "\(sourceRoot) is no directory"),
            status: DoctorStatus.usage)
    }

    /// The absolute path of `--source-root`. Nil in the root directory, where absolute paths are as short.
    var sourceRootPath: String? {
        let current = FileManager.default.currentDirectoryPath
        guard let sourceRoot else { return current == "/" ? nil : current }
        // Without the hint a relative path would lead to its namesake in the parent of the current directory.
        let base = URL(filePath: current, directoryHint: .isDirectory)
        return URL(filePath: sourceRoot, directoryHint: .isDirectory, relativeTo: base).standardizedFileURL.path
    }
}

/// The open destination of a report.
///
/// A file is opened and emptied before anything is observed, as a shell's redirection does: a mistyped path costs no
/// run, and an old report is never taken for the new one.
struct ReportOutput: ~Copyable {
    let format: ReportFormat
    let style: TextStyle
    private let path: String?
    private let descriptor: Int32

    /// Throws `DoctorFailure` with status 64 if the file cannot be written, or is the one that is to be read, or the options make
    /// no sense.
    ///
    /// - Parameter source: The path of a file that the command reads.
    init(_ options: ReportOptions, reading source: String? = nil) throws(DoctorFailure) {
        try options.checkSourceRoot()
        try self.init(options.output, maxFindings: options.maxFindings, reading: source)
    }

    /// - Parameter maxFindings: How many findings to show as text, 0 for all; nil for as many as usual.
    init(_ options: OutputOptions, maxFindings: Int? = nil, reading source: String? = nil) throws(DoctorFailure) {
        format = options.format
        var style = Terminal.style(color: options.color, toFile: options.output != nil)
        if let maxFindings { style.maximumFindings = maxFindings == 0 ? nil : maxFindings }
        self.style = style
        path = options.output
        guard let path = options.output else {
            descriptor = STDOUT_FILENO
            return
        }
        // Emptied below, when it is known not to be the file that is to be read.
        descriptor = open(path, O_WRONLY | O_CREAT | O_CLOEXEC, 0o666)
        guard descriptor >= 0 else {
            throw DoctorFailure("--output: cannot write \(path): \(SystemError.last)", status: DoctorStatus.usage)
        }
        do {
            try Self.empty(descriptor, path, sparing: source)
        } catch {
            close(descriptor)
            throw error
        }
    }

    /// Empties a regular file, unless it is `source`; others have nothing to be emptied.
    private static func empty(
        _ descriptor: Int32, _ path: String, sparing source: String?
    ) throws(DoctorFailure) {
        var own = stat()
        var other = stat()
        guard fstat(descriptor, &own) == 0, own.st_mode & S_IFMT == S_IFREG else { return }
        if let source, stat(source, &other) == 0, own.st_dev == other.st_dev, own.st_ino == other.st_ino {
            throw DoctorFailure(
                "--output: \(path) is the file that is to be read; choose another name", status: DoctorStatus.usage)
        }
        guard ftruncate(descriptor, 0) == 0 else {
            throw DoctorFailure("--output: cannot write \(path): \(SystemError.last)", status: DoctorStatus.usage)
        }
    }

    deinit {
        if path != nil { close(descriptor) }
    }

    /// Appends to the report. Throws `DoctorFailure` with status 70, as when the disk is full.
    mutating func write(_ text: String) throws(DoctorFailure) {
        do {
            try Descriptor.write(text, to: descriptor)
        } catch {
            throw DoctorFailure(
                "cannot write the report to \(path ?? "stdout"): \(error)",
                status: DoctorStatus.internalError
            )
        }
    }

    /// Writes reports as JSON, which may be long.
    mutating func write(_ reports: some JSONListHolder) throws(DoctorFailure) {
        try JSONReporter.write(reports) { text throws(DoctorFailure) in try write(text) }
    }

    /// Writes one diagnosis as a whole report. If there is none, a line on stderr says why. A file has that line too, and
    /// JSON is an inconclusive report, so that a script finds a verdict in every case.
    mutating func write(_ diagnosis: Diagnosis) throws(DoctorFailure) {
        if let failure = diagnosis.failure { Message.failure(failure) }
        switch format {
        case .json: try write(diagnosis.report)
        case .text where diagnosis.failure == nil: try write(TextReporter.render(diagnosis.report, style: style))
        case .text where path != nil: try write("\(PlainText.clean(diagnosis.failure ?? ""))\n")
        case .text: break
        }
    }
}
