// `mempool-doctor selftest`: what it says where all is well, and where something is missing.

import Foundation
import MempoolWorkloads
import Testing

@Suite struct SelftestTests {
    private let scratch: Scratch

    init() throws { scratch = try Scratch() }

    private func checks(_ result: DoctorResult) throws -> [[String: Any]] {
        try #require(result.json?["checks"] as? [[String: Any]])
    }

    @Test func `Here everything passes, each mistake with its line`() throws {
        let runtime = scratch.file("runtime")
        try FileManager.default.createDirectory(atPath: runtime, withIntermediateDirectories: false)
        let result = try doctor("selftest", in: scratch, environment: ["XDG_RUNTIME_DIR": runtime])
        #expect(result.status == 0)
        #expect(result.errors == "")
        func site(_ form: PlantedFaults.Form) -> String { PlantedFaults.site(of: form).description }
        let lines = result.output.split(separator: "\n", omittingEmptySubsequences: false)
        #expect(
            lines.prefix(17) == [
                "✓ leak                          \(site(.leak))",
                "✓ double-put                    \(site(.doublePut))",
                "✓ double-put, re-issued         \(site(.doublePutAfterReissue))",
                "✓ wrong-capacity                \(site(.wrongCapacity))",
                "✓ foreign-put                   \(site(.foreignPut))",
                "✓ wrong-pool                    \(site(.wrongPool))",
                "✓ use-after-put                 \(site(.useAfterPut))",
                "✓ use-after-put, at the access  \(site(.useAfterPutTouch))",
                "✓ overrun                       \(site(.overrun))",
                "✓ overrun, at the front         \(site(.underrun))",
                "✓ pool-destroyed                \(site(.poolDestroyed))",
                "✓ held-too-long                 \(site(.heldTooLong))",
                "✓ leak, killed by kill -9       \(site(.leak))",
                "✓ correct program               nothing reported",
                "✓ guard pages                   a touch after the put stops at its instruction",
                "✓ unwinder                      libunwind",
                "✓ debug information             present in this executable",
            ])
        #expect(lines[17].hasPrefix("✓ place of recordings           \(runtime)/mempool, "))
        #expect(lines.suffix(3) == ["", "PASSED: 18 checks", ""])
    }

    @Test func `As JSON it has the same facts`() throws {
        let result = try doctor("selftest", "--format", "json", in: scratch)
        #expect(result.status == 0)
        #expect(result.json?["schemaVersion"] as? Int == 1)
        #expect(result.json?["verdict"] as? String == "passed")
        let checks = try checks(result)
        #expect(checks.count == 18)
        #expect(checks.allSatisfy { $0["passed"] as? Bool == true && $0["detail"] is String })
        #expect(checks.first?["expected"] as? String == PlantedFaults.site(of: .leak).description)
    }

    @Test func `A copy without debug information fails and says what is missing`() throws {
        let stripped = scratch.file("mempool-doctor")
        let strip = Process()
        strip.executableURL = URL(filePath: "/usr/bin/env")
        strip.arguments = ["strip", "--strip-debug", "-o", stripped, try DoctorProcess.executable]
        try strip.run()
        strip.waitUntilExit()
        try #require(strip.terminationStatus == 0)
        let result = try DoctorProcess(
            ["selftest"], in: scratch, environment: ["LC_ALL": "C"], executable: stripped
        ).finish()
        #expect(result.status == 1)
        #expect(result.output.hasPrefix("!! leak                          found, but without file and line; it is at "))
        #expect(result.output.contains("\n!! debug information             missing in this executable, "))
        #expect(result.output.contains("\nok correct program               nothing reported\n"))
        #expect(result.output.hasSuffix("\n\nFAILED: 14 of 18 checks\n"), "\(result.output)")
    }

    @Test(arguments: ["sampled,poison=0,canary=0", "off", "abort=all,frames=1"])
    func `What the user has in MEMPOOL_DEBUG is no part of the promise`(value: String) throws {
        let result = try doctor("selftest", in: scratch, environment: ["MEMPOOL_DEBUG": value])
        #expect(result.status == 0, "\(result.output)")
        #expect(result.errors == "")
    }

    @Test func `The result goes to the file that was named`() throws {
        let result = try doctor("selftest", "--output", "result", "--format", "json", in: scratch)
        #expect(result == DoctorResult(status: 0, output: "", errors: ""))
        #expect(try scratch.read("result").contains("\"verdict\" : \"passed\""))
        #expect(try doctor("selftest", "--output", "no/such", in: scratch).status == 64)
    }
}
