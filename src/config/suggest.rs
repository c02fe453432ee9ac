//! Did you mean: the nearest of the known words.

/// The known word nearest to `word`, if it is near enough to be what was meant.
pub(crate) fn nearest<'a>(word: &str, known: impl Iterator<Item = &'a str>) -> Option<&'a str> {
    // Longer than any key: not a slip, and not worth the square of its length.
    if word.len() > 64 {
        return None;
    }
    let most = (word.chars().count() / 3).max(1);
    known
        .map(|one| (distance(word, one), one))
        .filter(|(distance, _)| *distance <= most)
        .min()
        .map(|(_, one)| one)
}

/// Insertions, deletions, replacements and swaps of neighbours from one to the other; `-` and `_` count
/// as the same.
fn distance(from: &str, to: &str) -> usize {
    let plain =
        |text: &str| -> Vec<char> { text.to_lowercase().replace('-', "_").chars().collect() };
    let (from, to) = (plain(from), plain(to));
    let mut before: Vec<usize> = Vec::new();
    let mut last: Vec<usize> = (0..=to.len()).collect();
    for (i, a) in from.iter().enumerate() {
        let mut row = vec![i + 1];
        for (j, b) in to.iter().enumerate() {
            let mut least = (last[j] + usize::from(a != b))
                .min(last[j + 1] + 1)
                .min(row[j] + 1);
            if i > 0 && j > 0 && *a == to[j - 1] && from[i - 1] == *b {
                least = least.min(before[j - 1] + 1);
            }
            row.push(least);
        }
        before = std::mem::replace(&mut last, row);
    }
    last[to.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn finds_slips_and_nothing_far() {
        let known = || ["workers", "command", "connect", "max_surge"].into_iter();
        assert_eq!(nearest("worker", known()), Some("workers"));
        assert_eq!(nearest("wrokers", known()), Some("workers"));
        assert_eq!(nearest("max-surge", known()), Some("max_surge"));
        assert_eq!(nearest("conect", known()), Some("connect"));
        assert_eq!(nearest("elephant", known()), None);
        assert_eq!(nearest("", known()), None);
        assert_eq!(nearest(&"w".repeat(10_000), known()), None);
    }
}
