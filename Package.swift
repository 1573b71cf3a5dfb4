// swift-tools-version: 6.1
import PackageDescription

/// The recorder is compiled in by default. In C a trait is not visible by itself, hence the define.
let recorderDefine: [CSetting] = [.define("MEMPOOL_RECORDER", to: "1", .when(traits: ["Recorder"]))]

/// The examples, each an executable target in a folder: the three ways of using a pool, and three bugs.
let examples: KeyValuePairs = [
    "example-basic": "BasicPattern",
    "example-encode-decode": "EncodeDecodePattern",
    "example-batch": "BatchPattern",
    "example-leak": "Leak",
    "example-double-put": "DoublePut",
    "example-wrong-capacity": "WrongCapacity",
]

let package = Package(
    name: "mempool",
    products: [
        // Both targets, so that a program which depends on the pool has the recorder with nothing to call.
        .library(name: "Mempool", targets: ["Mempool", "MempoolRecorder"]),
        // Bridges to Foundation and Dispatch, apart so that the pool does not need them.
        .library(name: "MempoolFoundation", targets: ["MempoolFoundation"]),
        .executable(name: "mempool-doctor", targets: ["mempool-doctor"]),
    ],
    traits: [
        .trait(
            name: "Recorder",
            description: "Compiles the debug recorder in: on in debug builds, asleep in release builds."
        ),
        .default(enabledTraits: ["Recorder"]),
    ],
    dependencies: [
        .package(url: "https://github.com/apple/swift-argument-parser", from: "1.5.0")
    ],
    targets: [
        // The pool and its recorder.
        .target(name: "CMempoolPlatform", cSettings: recorderDefine),
        .target(name: "Mempool", dependencies: ["CMempoolPlatform"]),
        .target(name: "MempoolFoundation", dependencies: ["Mempool"]),
        .target(name: "MempoolRecording"),
        .target(name: "MempoolRecorder", dependencies: ["Mempool", "MempoolRecording", "CMempoolPlatform"]),

        // From a recording to a report; none of this runs in the observed process.
        .target(name: "CMempoolAnalysis"),
        .target(name: "MempoolAnalysis", dependencies: ["MempoolRecording", "CMempoolAnalysis"]),
        .target(name: "MempoolReporters", dependencies: ["MempoolAnalysis"]),

        // The command and what it runs.
        .target(name: "SegmentLog", dependencies: ["Mempool"], path: "Examples/SegmentLog"),
        .target(name: "MempoolWorkloads", dependencies: ["Mempool", "MempoolRecorder", "SegmentLog"]),
        .target(name: "CMempoolBenchmarks"),
        .target(
            name: "MempoolBenchmarks",
            dependencies: ["Mempool", "MempoolRecorder", "CMempoolBenchmarks", "CMempoolPlatform"],
            // Compiled where the benchmark runs, by whatever compilers are there.
            resources: [.embedInCode("Peers/instrumented.c")]
        ),
        .executableTarget(
            name: "mempool-doctor",
            dependencies: [
                "MempoolAnalysis", "MempoolBenchmarks", "MempoolRecorder", "MempoolReporters", "MempoolWorkloads",
                .product(name: "ArgumentParser", package: "swift-argument-parser"),
            ]
        ),

        // Tests.
        .target(name: "TestSupport", dependencies: ["MempoolRecording", "MempoolAnalysis"], path: "Tests/TestSupport"),
        .target(name: "CaptureFixtures", path: "Tests/CaptureFixtures"),
        .testTarget(name: "MempoolRecordingTests", dependencies: ["MempoolRecording", "TestSupport"]),
        .testTarget(name: "MempoolAnalysisTests", dependencies: ["MempoolAnalysis", "TestSupport"]),
        .testTarget(
            name: "MempoolReportersTests", dependencies: ["MempoolReporters", "TestSupport"], exclude: ["Golden"]
        ),
        .testTarget(name: "MempoolBenchmarksTests", dependencies: ["MempoolBenchmarks"]),
        // A program of its own, as it replaces malloc.
        .target(name: "CAllocationProbe", path: "Tests/AllocationProbe/C"),
        .executableTarget(
            name: "allocation-probe", dependencies: ["CAllocationProbe", "Mempool", "MempoolRecorder"],
            path: "Tests/AllocationProbe/Program"
        ),
        .testTarget(name: "MempoolTests", dependencies: ["allocation-probe", "Mempool"]),
        .testTarget(name: "MempoolFoundationTests", dependencies: ["MempoolFoundation"]),
        .testTarget(
            name: "MempoolRecorderTests",
            dependencies: ["Mempool", "MempoolRecorder", "MempoolRecording", "CMempoolPlatform", "CaptureFixtures"]
        ),
        // Small programs with known truth, all in one executable, and the tests that run them.
        .executableTarget(
            name: "zoo", dependencies: ["Mempool", "MempoolRecorder", "MempoolFoundation"], path: "Tests/Zoo"
        ),
        .testTarget(name: "ZooTests", dependencies: ["zoo", "MempoolAnalysis", "MempoolRecording"]),
        // The recorder in hosts that are killed, crash, or do unusual things. Longer with MEMPOOL_LONG_TESTS=1.
        .testTarget(
            name: "CampaignTests", dependencies: ["zoo", "mempool-doctor", "MempoolAnalysis", "MempoolRecording"]),
        // The manual page against the built command.
        .testTarget(name: "ManPageTests", dependencies: ["MempoolRecorder"]),
        .testTarget(name: "SegmentLogTests", dependencies: ["SegmentLog", "Mempool"]),
        .testTarget(name: "MempoolWorkloadsTests", dependencies: ["MempoolWorkloads", "SegmentLog", "Mempool"]),
        .testTarget(
            name: "MempoolDoctorTests",
            dependencies: [
                "mempool-doctor", "MempoolRecording", "MempoolAnalysis", "MempoolReporters", "MempoolWorkloads",
            ]
        ),
        .testTarget(name: "ExamplesTests", dependencies: examples.map { .target(name: $0.key) }),
    ]
        + examples.map { name, folder in
            .executableTarget(
                name: name,
                dependencies: ["Mempool", "MempoolRecorder"],
                path: "Examples/" + folder
            )
        },
    swiftLanguageModes: [.v6],
    cLanguageStandard: .gnu17
)
