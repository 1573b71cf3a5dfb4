// swift-tools-version: 6.1
import PackageDescription

// A package of its own, so that whoever uses the pool does not have to fetch SwiftNIO.
let package = Package(
    name: "mempool-benchmarks",
    dependencies: [
        .package(name: "mempool", path: ".."),
        .package(url: "https://github.com/apple/swift-nio", from: "2.101.2"),
    ],
    targets: [
        // The barriers and the calibration kernel of `mempool-doctor bench`: a link to the same sources.
        .target(name: "CBarriers"),
        .executableTarget(
            name: "nio-bench",
            dependencies: [
                "CBarriers",
                .product(name: "Mempool", package: "mempool"),
                .product(name: "NIOCore", package: "swift-nio"),
            ]
        ),
    ],
    swiftLanguageModes: [.v6],
    cLanguageStandard: .gnu17
)
