// Tests of the order statistics and of the judgement of noise.

import Testing

@testable import MempoolBenchmarks

struct StatisticsTests {
    private static let medians: [([Double], Double)] = [
        ([3], 3), ([1, 2], 1.5), ([9, 1, 5], 5), ([4, 1, 3, 2], 2.5), ([1, 1, 1, 100], 1),
    ]

    @Test(arguments: medians)
    func `The median is the middle, or between the middle two`(values: [Double], median: Double) {
        #expect(Statistics.median(values) == median)
    }

    @Test func `Quantiles run from the smallest to the largest value`() {
        let values: [Double] = [40, 0, 10, 30, 20]
        #expect(Statistics.quantile(values, 0) == 0)
        #expect(Statistics.quantile(values, 0.1) == 4)
        #expect(Statistics.quantile(values, 1) == 40)
        #expect(Statistics.quantile([], 0.5) == nil)
    }

    private func gauge(_ calibrations: [Double]) -> NoiseGauge {
        var gauge = NoiseGauge()
        for calibration in calibrations { gauge.add(calibration) }
        return gauge
    }

    @Test func `A sample is quiet if its calibration is within eight percent of the undisturbed one`() {
        let gauge = gauge([Double](repeating: 100, count: 50) + [Double](repeating: 200, count: 50))
        #expect(gauge.undisturbed == 100)
        #expect(gauge.isQuiet(Sample(nanoseconds: 1, calibration: 108)))
        #expect(!gauge.isQuiet(Sample(nanoseconds: 1, calibration: 108.1)))
        #expect(gauge.quietCount == 50)
    }

    @Test func `A few calibrations that were faster than all others do not make the machine noisy`() {
        let gauge = gauge([50, 50] + [Double](repeating: 100, count: 98))
        #expect(gauge.undisturbed == 100)
        #expect(gauge.quietCount == 100)
    }

    @Test func `Only quiet samples make the median if there are enough of them`() throws {
        let gauge = gauge([Double](repeating: 100, count: 100))
        let quiet = [7.0, 7, 7, 8, 9].map { Sample(nanoseconds: $0, calibration: 100) }
        let noisy = [Sample](repeating: Sample(nanoseconds: 70, calibration: 300), count: 20)
        let measurement = try #require(BenchmarkMeasurement(contender: "x", samples: noisy + quiet, gauge: gauge))
        #expect(measurement.nanoseconds == 7)
        #expect(measurement.samples == 25)
        #expect(measurement.quietSamples == 5)
        #expect(!measurement.isEstimate)
        #expect(measurement.high < 70)
    }

    @Test func `With too few quiet samples the lower quartile of all is the estimate`() throws {
        let gauge = gauge([Double](repeating: 100, count: 100))
        let quiet = [Sample](repeating: Sample(nanoseconds: 10, calibration: 100), count: 4)
        let noisy = (1...21).map { Sample(nanoseconds: Double(10 + $0), calibration: 250) }
        let measurement = try #require(BenchmarkMeasurement(contender: "x", samples: noisy + quiet, gauge: gauge))
        #expect(measurement.nanoseconds == 13)
        #expect(measurement.isEstimate)
    }

    @Test func `A row is noisy that has too few quiet samples of somebody, unless they are long or there are none`() {
        let gauges = [
            "": gauge([Double](repeating: 100, count: 100)), "/x": gauge([Double](repeating: 300, count: 100)),
        ]
        func samples(_ quiet: Int, _ calibration: Double = 100) -> [Sample] {
            (0..<20).map { Sample(nanoseconds: 1, calibration: $0 < quiet ? calibration : 1000) }
        }
        let pair = BenchmarkPlan(BenchmarkOptions()).rows[0]
        var row = pair
        row.contenders = [pair.contenders[0], pair.contenders[0]]
        row.contenders[1].instrument = Instrument(name: "x", program: "/x", limit: 1)
        #expect(!Benchmark.isNoisy(row, [samples(5), samples(5, 300)], gauges))
        #expect(Benchmark.isNoisy(row, [samples(4), samples(5, 300)], gauges))
        #expect(Benchmark.isNoisy(row, [samples(5), samples(4, 300)], gauges))
        #expect(!Benchmark.isNoisy(row, [samples(5), []], gauges))
        row.group = .threads
        #expect(!Benchmark.isNoisy(row, [samples(0), samples(0)], gauges))
    }

    @Test func `What is compared with estimates is one as well`() throws {
        let gauge = gauge([Double](repeating: 100, count: 100))
        let samples = (1...9).map { Sample(nanoseconds: Double($0), calibration: 100) }
        let alone = try #require(BenchmarkMeasurement(contender: "x", samples: samples, gauge: gauge))
        #expect(alone.nanoseconds == 5 && !alone.isEstimate)
        let among = BenchmarkMeasurement(contender: "x", samples: samples, gauge: gauge, asEstimate: true)
        #expect(among?.nanoseconds == 3 && among?.isEstimate == true)
    }

    @Test func `Three quiet samples of three are enough`() throws {
        let gauge = gauge([Double](repeating: 100, count: 100))
        let samples = [Sample](repeating: Sample(nanoseconds: 10, calibration: 100), count: 3)
        #expect(try #require(BenchmarkMeasurement(contender: "x", samples: samples, gauge: gauge)).isEstimate == false)
        #expect(BenchmarkMeasurement(contender: "x", samples: [], gauge: gauge) == nil)
    }
}
