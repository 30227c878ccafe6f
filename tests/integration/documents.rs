//! Documents that are made from the driver table and from the table of differences, and example configs that must load.
//! `UPDATE_DOCUMENTS=1 cargo test documents` writes the generated parts anew.

use pdudaemon::config::{Config, Findings};
use pdudaemon::driver::docs;
use pdudaemon::driver::registry;
use std::collections::HashSet;
use std::path::{Path, PathBuf};

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// Holds the text between two marks of a document against what it should be.
fn check_part(file: &str, begin: &str, end: &str, expected: &str) {
    let path = root().join(file);
    let text = std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{file}: {error}"));
    let start = text
        .find(begin)
        .unwrap_or_else(|| panic!("{file} lacks {begin}"))
        + begin.len();
    let stop = start
        + text[start..]
            .find(end)
            .unwrap_or_else(|| panic!("{file} lacks {end}"));
    let expected = format!("\n{expected}");
    if std::env::var_os("UPDATE_DOCUMENTS").is_some() {
        std::fs::write(
            &path,
            format!("{}{expected}{}", &text[..start], &text[stop..]),
        )
        .expect("written");
    } else {
        assert!(
            text[start..stop] == expected,
            "{file}: what stands after {begin} is old: run `make docs`"
        );
    }
}

#[test]
fn documents_the_drivers_and_the_differences_in_the_readme() {
    let table = docs::markdown_table(registry::specs());
    let differences = include_str!("../../share/doc/differences.md");
    let differences = &differences[differences.find("| what |").expect("the table")..];
    check_part(
        "README.md",
        "<!-- drivers -->",
        "<!-- end of drivers -->",
        &table,
    );
    check_part(
        "README.md",
        "<!-- differences -->",
        "<!-- end of differences -->",
        differences,
    );
}

#[test]
fn documents_the_drivers_in_the_man_page() {
    let section = docs::man_section(registry::specs());
    check_part(
        "share/man/pdudaemon.conf.5",
        ".\\\" BEGIN DRIVERS",
        ".\\\" END DRIVERS",
        &section,
    );
}

fn configs(folder: &Path, found: &mut Vec<PathBuf>) {
    for entry in
        std::fs::read_dir(folder).unwrap_or_else(|error| panic!("{}: {error}", folder.display()))
    {
        let path = entry.expect("readable").path();
        if path.is_dir() {
            configs(&path, found);
        } else if path
            .extension()
            .is_some_and(|extension| extension == "conf")
            && std::fs::read_to_string(&path).is_ok_and(|text| text.trim_start().starts_with('{'))
        {
            found.push(path);
        }
    }
}

#[test]
fn every_example_config_loads_without_a_warning_and_every_driver_has_one() {
    let mut files = Vec::new();
    configs(&root().join("share"), &mut files);
    let mut shown = HashSet::new();
    for file in &files {
        // Parsed, not loaded: in a source tree everybody may read them, which is a warning.
        let text = std::fs::read_to_string(file).expect("readable");
        let config = Config::parse(&text, &file.display().to_string())
            .unwrap_or_else(|error| panic!("{error}"));
        assert_eq!(config.findings, Findings::default());
        if file
            .parent()
            .is_some_and(|folder| folder.ends_with("examples"))
        {
            for pdu in config.pdus.values().flatten() {
                assert!(
                    pdu.about.is_some(),
                    "{}: {} lacks its \"about\"",
                    file.display(),
                    pdu.name
                );
                shown.insert(pdu.settings.driver().to_owned());
            }
        }
    }
    let missing: Vec<&str> = registry::specs()
        .flat_map(|spec| spec.names)
        .copied()
        .filter(|name| !shown.contains(*name))
        .collect();
    assert!(missing.is_empty(), "no example for {}", missing.join(", "));
}
