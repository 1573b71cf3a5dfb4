// Options about the recording of an observed program.

import ArgumentParser

/// What becomes of the recording.
struct RecordingOptions: ParsableArguments {
    @Option(
        help: ArgumentHelp(
            "Keep the recording as FILE, which must not exist; `report` reads it again.",
            discussion: "Without it the recording lives in a private temporary directory and is removed.",
            valueName: "file"
        )
    )
    var keep: String?
}

extension RecordingPlace {
    /// Says where the recording is, if it was to be kept.
    func announce() {
        guard let kept, !recordings().isEmpty else { return }
        Message.note("recording kept: \(kept)")
    }
}
