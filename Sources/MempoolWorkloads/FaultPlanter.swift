// Decides when a planted fault happens: with a probability per operation, and each form at least once per run.

internal import Mempool

/// Plants the faults of one thread.
struct FaultPlanter {
    private let pool: BufferPool
    private let rate: Double
    private let forms: [PlantedFaults.Form]
    private var generator: SeededGenerator
    /// How often at most.
    private let limit: Int
    private(set) var planted: [PlantedFaults.Form: Int] = [:]

    /// Keeps the decisions apart from the numbers of the workload: with a fault planted it does the same work as without.
    private static let streamOffset: UInt64 = 1 << 32

    init(_ fault: PlantedFault?, pool: BufferPool, seed: UInt64, thread: Int, limit: Int = .max) {
        self.pool = pool
        self.rate = fault?.rate ?? 0
        self.limit = limit
        self.forms = fault.map { PlantedFaults.Form.all(of: $0.kind) } ?? []
        self.generator = SeededGenerator(seed: seed, stream: Self.streamOffset + UInt64(thread))
    }

    /// To be called once per operation.
    mutating func operationDone() {
        guard !forms.isEmpty, Double.random(in: 0..<1, using: &generator) < rate else { return }
        let count = planted.values.reduce(0, +)
        guard count < limit else { return }
        let form = forms[count % forms.count]
        PlantedFaults.plant(form, in: pool)
        planted[form, default: 0] += 1
    }

    /// Plants what chance has left out.
    static func plantMissingForms(
        of fault: PlantedFault,
        pool: BufferPool,
        planted: inout [PlantedFaults.Form: Int]
    ) {
        for form in PlantedFaults.Form.all(of: fault.kind) where planted[form] == nil {
            PlantedFaults.plant(form, in: pool)
            planted[form] = 1
        }
    }
}
