// `SampleLength`: how many operations a sample has.

/// Finds how many operations take as long as a sample shall.
enum SampleLength {
    /// - Parameters:
    ///   - nanoseconds: How long a sample shall be.
    ///   - measure: Runs so many operations and gives the nanoseconds of each.
    /// - Returns: At least 1.
    static func operations<Failure: Error>(
        filling nanoseconds: Double, _ measure: (_ operations: Int) throws(Failure) -> Double
    ) throws(Failure) -> Int {
        var operations = 1
        var isConfirmed = false
        while true {
            let wanted = max(1, Int(nanoseconds / max(try measure(operations), 0.1)))
            if wanted > operations * 2 {
                // Not at once: the first operations are the slow ones, in particular for who has to map memory first.
                operations = min(wanted, operations * 8)
                isConfirmed = false
            } else if isConfirmed {
                return wanted
            } else {
                // Once more: something may have been done that is done once, as the first sampled get unwinds its stack. A sample that is
                // too short for that would say more of the clock than of the operations.
                isConfirmed = true
            }
        }
    }
}
