//! "Did you mean": the known word that a mistyped one is nearest to.

/// `, did you mean --word?`, or nothing when no known word is near. Only the answer has `prefix`
/// before the word.
pub(crate) fn did_you_mean<'w>(
    mistyped: &str,
    prefix: &str,
    known: impl Iterator<Item = &'w str>,
) -> String {
    nearest(mistyped, known)
        .map(|word| format!(", did you mean {prefix}{word}?"))
        .unwrap_or_default()
}

/// The known word that is near enough.
pub(crate) fn nearest<'w>(mistyped: &str, known: impl Iterator<Item = &'w str>) -> Option<&'w str> {
    // A longer text is no mistyped name, and the comparison costs time.
    const MOST: usize = 64;
    let mistyped = match mistyped.len() {
        0..=MOST => mistyped.to_ascii_lowercase(),
        _ => return None,
    };
    known
        .map(|word| {
            (
                strsim::jaro_winkler(&mistyped, &word.to_ascii_lowercase()),
                word,
            )
        })
        .filter(|(likeness, _)| *likeness > 0.8)
        .max_by(|a, b| a.0.total_cmp(&b.0))
        .map(|(_, word)| word)
}
