//! The manual pages show what they mean: each is rendered, and what looks like JSON in it is JSON.

use serde_json::Value;
use std::path::{Path, PathBuf};
use std::process::Command;

fn pages() -> Vec<PathBuf> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("share/man");
    let entries = std::fs::read_dir(folder).expect("the pages");
    let pages: Vec<PathBuf> = entries.map(|entry| entry.expect("a page").path()).collect();
    assert!(pages.len() > 2, "the pages are found");
    pages
}

/// As a terminal shows it, in lines so long that no example is broken.
fn rendered(page: &Path) -> String {
    let output = Command::new("groff")
        .args(["-mdoc", "-Tutf8", "-P-cbou", "-rLL=2000n", "-ww"])
        .arg(page)
        .output()
        .expect("groff (Debian: groff-base)");
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(said.is_empty(), "{}: {said}", page.display());
    String::from_utf8(output.stdout).expect("text")
}

/// A value, or an entry of an object as it stands in one.
fn is_json(text: &str) -> bool {
    let entry = format!("{{{text}}}");
    [text, &entry]
        .iter()
        .any(|text| serde_json::from_str::<Value>(text).is_ok())
}

fn begins_json(line: &str) -> bool {
    let mut pieces = line.splitn(3, '"');
    let is_entry = pieces.next() == Some("")
        && pieces.next().is_some_and(|key| !key.contains(' '))
        && pieces.next().is_some_and(|rest| rest.starts_with(": "));
    // A hole of a profile is no object.
    let is_hole = line
        .strip_prefix('{')
        .is_some_and(|rest| rest.starts_with(char::is_alphabetic));
    line.starts_with('{') && !is_hole && !line.contains("--") && !line.starts_with("{%") || is_entry
}

/// The examples of a page that are no JSON.
fn broken_examples(text: &str) -> (usize, Vec<String>) {
    let (mut examples, mut broken) = (0, Vec::new());
    let mut lines = text.lines().map(str::trim);
    while let Some(line) = lines.next() {
        for inline in line.split('‘').skip(1) {
            let inline = inline.split('’').next().unwrap_or_default();
            if inline.starts_with(['{', '"']) {
                examples += 1;
                if !is_json(inline) {
                    broken.push(inline.to_owned());
                }
            }
        }
        if begins_json(line) {
            let mut example = line.to_owned();
            while !is_json(&example) {
                match lines.next() {
                    Some(more) if !more.is_empty() => example.extend(["\n", more]),
                    _ => {
                        broken.push(example.clone());
                        break;
                    }
                }
            }
            examples += 1;
        }
    }
    (examples, broken)
}

#[test]
fn examples_in_the_manual_pages_are_json() {
    let mut seen = 0;
    for page in pages() {
        let (examples, broken) = broken_examples(&rendered(&page));
        assert!(broken.is_empty(), "{}: {broken:#?}", page.display());
        seen += examples;
    }
    assert!(seen > 15, "{seen} examples are found");
}

/// Quotes that groff takes for its own are not in the page: a quote within an argument that began
/// with one has ended it.
#[test]
fn no_quote_of_a_manual_page_is_lost() {
    for page in pages() {
        let text = std::fs::read_to_string(&page).expect("readable");
        for (number, line) in text.lines().enumerate() {
            if !line.starts_with('.') || line.starts_with(".\\\"") {
                continue;
            }
            let mut rest = line.to_owned();
            while let Some(start) = rest.find(" \"") {
                let quoted = rest[start + 2..].to_owned();
                let (_, after) = quoted.split_once('"').unwrap_or_else(|| {
                    panic!("{}:{}: a quote has no end", page.display(), number + 1)
                });
                assert!(
                    after.is_empty() || after.starts_with(' '),
                    "{}:{}: {line}",
                    page.display(),
                    number + 1
                );
                rest = after.to_owned();
            }
        }
    }
}
