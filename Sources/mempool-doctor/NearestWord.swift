// Finding the word that a misspelt one was meant to be.

/// The word nearest to `word` by edit distance; nil if every one differs in more than half of its letters.
func nearestWord(to word: String, among candidates: [String]) -> String? {
    let ranked = candidates.map { (word: $0, distance: editDistance(word, $0)) }
    guard let best = ranked.min(by: { $0.distance < $1.distance }), best.distance * 2 <= best.word.count else {
        return nil
    }
    return best.word
}

/// Levenshtein's distance, by rows: insertions, deletions and substitutions that turn one word into the other.
func editDistance(_ first: String, _ second: String) -> Int {
    let second = Array(second)
    var row = Array(0...second.count)
    for (i, letter) in first.enumerated() {
        var diagonal = row[0]
        row[0] = i + 1
        for (j, other) in second.enumerated() {
            let substitution = diagonal + (letter == other ? 0 : 1)
            diagonal = row[j + 1]
            row[j + 1] = min(substitution, diagonal + 1, row[j] + 1)
        }
    }
    return row[second.count]
}
