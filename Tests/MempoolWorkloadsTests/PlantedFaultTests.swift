// Tests of the faults that workloads plant: their syntax, their sites and what they do to a pool.
// The faults are made in processes of their own, so that no test run ends with findings that were meant.

import Mempool
import Testing

@testable import MempoolWorkloads

/// As the message lists them.
private let kinds =
    "leak, double-put, wrong-capacity, foreign-put, wrong-pool, use-after-put, overrun, pool-destroyed, held-too-long"

@Suite struct PlantedFaultTests {
    @Test("A fault is read with and without a rate", arguments: PlantedFault.Kind.allCases)
    func parsing(kind: PlantedFault.Kind) throws {
        #expect(try PlantedFault(parsing: kind.rawValue) == PlantedFault(kind: kind, rate: 0.001))
        #expect(try PlantedFault(parsing: kind.rawValue + ":0.25") == PlantedFault(kind: kind, rate: 0.25))
        #expect(try PlantedFault(parsing: kind.rawValue + ":1") == PlantedFault(kind: kind, rate: 1))
    }

    @Test(
        "A bad fault is refused in one line that says what is right",
        arguments: [
            ("", "no fault '' can be planted; the kinds are " + kinds),
            ("leek", "no fault 'leek' can be planted; the kinds are " + kinds),
            (":1", "no fault '' can be planted; the kinds are " + kinds),
            ("leak:", "the rate '' of leak is not a number above 0 and up to 1"),
            ("leak:0", "the rate '0' of leak is not a number above 0 and up to 1"),
            ("double-put:1.01", "the rate '1.01' of double-put is not a number above 0 and up to 1"),
            ("leak:-1", "the rate '-1' of leak is not a number above 0 and up to 1"),
            ("leak:nan", "the rate 'nan' of leak is not a number above 0 and up to 1"),
            ("leak:inf", "the rate 'inf' of leak is not a number above 0 and up to 1"),
            ("leak:1:1", "the rate '1:1' of leak is not a number above 0 and up to 1"),
        ])
    func badSyntax(text: String, message: String) {
        #expect(throws: WorkloadError(usage: message)) { try PlantedFault(parsing: text) }
    }

    @Test("Each site is the line of the source that is marked as wrong", arguments: PlantedFaults.Form.allCases)
    func sites(form: PlantedFaults.Form) throws {
        let site = PlantedFaults.site(of: form)
        let source = try readText(sourceDirectory + "/PlantedFaults.swift").split(
            separator: "\n",
            omittingEmptySubsequences: false
        )
        #expect(site.fileID == "MempoolWorkloads/PlantedFaults.swift")
        #expect(site.description == "PlantedFaults.swift:\(site.line)")
        let line = source[site.line - 1]
        #expect(line.contains("// PLANTED: "), "line \(site.line): \(line)")
        let call =
            switch form {
            case .leak, .poolDestroyed, .heldTooLong: "pool.get("
            case .useAfterPutTouch: "buffer[1]"
            default: "pool.put("
            }
        #expect(line.contains(call))
        // Above it the nearest function is the one that is named like the form.
        let function = source[..<(site.line - 1)].last { $0.contains("func ") }
        #expect(function?.contains("func \(form.rawValue)(") == true)
    }

    @Test("A planted leak leaves its buffer outstanding") func leak() async {
        await #expect(processExitsWith: .success) {
            let pool = BufferPool()
            for _ in 0..<3 { PlantedFaults.plant(.leak, in: pool) }
            #expect(pool.stats().inUse == 3)
            #expect(pool.stats().discarded == 0)
        }
    }

    @Test("A buffer that is held too long is put in the end") func held() async {
        await #expect(processExitsWith: .success) {
            let pool = BufferPool()
            for _ in 0..<3 { PlantedFaults.plant(.heldTooLong, in: pool) }
            #expect(pool.stats().inUse == 3)
            PlantedFaults.putHeld(after: 0.001)
            #expect(pool.stats().inUse == 0)
            #expect(pool.stats().puts == 3)
        }
    }

    @Test("What writes where it must not, or ends a pool, leaves the pool of the workload alone")
    func faultsInOwnPools() async {
        await #expect(processExitsWith: .success) {
            let pool = BufferPool()
            for form in PlantedFaults.Form.allCases where form.usesOwnPool {
                for _ in 0..<3 { PlantedFaults.plant(form, in: pool) }
            }
            #expect(pool.stats() == PoolStats())
        }
    }

    @Test("Bad puts are refused or discarded once each, and leave nothing outstanding") func badPuts() async {
        await #expect(processExitsWith: .success) {
            for form in PlantedFaults.Form.allCases where form.isBadPut {
                let pool = BufferPool()
                for _ in 0..<3 { PlantedFaults.plant(form, in: pool) }
                let stats = pool.stats()
                #expect(stats.inUse == 0)
                #expect(stats.discarded == 3)
                let reasons = stats.discards
                #expect(reasons.doublePut == (form.kind == .doublePut ? 3 : 0))
                #expect(reasons.wrongCapacity == (form == .wrongCapacity ? 3 : 0))
                #expect(reasons.foreign == (form == .foreignPut ? 3 : 0))
                #expect(reasons.wrongPool == (form == .wrongPool ? 3 : 0))
            }
        }
    }
}

extension PlantedFaults.Form {
    fileprivate var usesOwnPool: Bool { [.useAfterPut, .overrun, .poolDestroyed].contains(kind) }
    fileprivate var isBadPut: Bool { !usesOwnPool && kind != .leak && kind != .heldTooLong }
}
