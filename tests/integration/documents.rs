//! The documents say what the program does: their tables come from the driver table, their links
//! lead somewhere, and every example config loads.
//! `UPDATE_DOCUMENTS=1 cargo test documents` writes the generated parts anew.

use crate::daemon::Lab;
use crate::pki::Authority;
use pdudaemon::config::{self, Config, Findings};
use pdudaemon::driver::docs;
use pdudaemon::driver::registry;
use pdudaemon::settings::{Keys, PduKeys};
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

fn read(file: &str) -> String {
    std::fs::read_to_string(root().join(file)).unwrap_or_else(|error| panic!("{file}: {error}"))
}

#[test]
fn documents_the_models_and_the_drivers() {
    let models = docs::models(registry::specs());
    check_part(
        "share/doc/devices.md",
        "<!-- models -->",
        "<!-- end of models -->",
        &models,
    );
    let keys = docs::keys(registry::specs());
    check_part(
        "share/doc/devices.md",
        "<!-- drivers -->",
        "<!-- end of drivers -->",
        &keys,
    );
}

#[test]
fn documents_the_keys_of_the_config() {
    for (name, keys) in [("daemon", config::daemon_keys()), ("PDU", PduKeys::rows())] {
        let (begin, end) = (
            format!("<!-- {name} -->"),
            format!("<!-- end of {name} -->"),
        );
        let table = docs::section(&keys);
        check_part("share/doc/config.md", &begin, &end, &table);
    }
}

/// `make docs` writes the pages and the table of all profiles.
#[test]
fn documents_the_profiles() {
    let folder = root().join("share/doc/devices");
    let is_update = std::env::var_os("UPDATE_DOCUMENTS").is_some();
    let mut specs = Vec::new();
    for spec in registry::shipped() {
        let spec = spec.expect("right");
        let file = folder.join(format!("{}.md", spec.names[0]));
        let page = docs::page(spec);
        if is_update {
            std::fs::create_dir_all(&folder).expect("a folder");
            std::fs::write(&file, &page).expect("written");
        }
        let is_right = std::fs::read_to_string(&file).is_ok_and(|written| written == page);
        assert!(is_right, "{} is old: run `make docs`", file.display());
        specs.push(spec);
    }
    for entry in std::fs::read_dir(&folder).expect("the folder is there") {
        let name = entry.expect("readable").file_name();
        let id = name.to_string_lossy().replace(".md", "");
        let is_known = specs.iter().any(|spec| spec.names[0] == id);
        assert!(is_known, "the page {id} has no profile");
    }
    let table = docs::profiles(specs.into_iter());
    check_part(
        "share/doc/devices.md",
        "<!-- profiles -->",
        "<!-- end of profiles -->",
        &table,
    );
}

/// A stranger reads it in a minute, and finds a driver for everything that we can switch.
#[test]
fn the_front_page_is_short_and_names_every_driver() {
    let readme = read("README.md");
    assert!(readme.len() <= 9_000, "{} bytes", readme.len());
    let supported = readme
        .split("\n## ")
        .find(|section| section.starts_with("Is my PDU supported?"))
        .expect("the section");
    let cells = supported
        .lines()
        .skip_while(|line| !line.starts_with("| ---"))
        .filter_map(|line| line.split('|').nth(2));
    let patterns: Vec<&str> = cells
        .flat_map(|cell| cell.split('`').skip(1).step_by(2))
        .collect();
    let fits = |pattern: &str, name: &str| match pattern.split_once('*') {
        None => pattern == name,
        Some((head, tail)) => name.starts_with(head) && name.ends_with(tail),
    };
    for name in registry::specs().flat_map(|spec| spec.names) {
        assert!(
            patterns.iter().any(|pattern| fits(pattern, name)),
            "README.md does not name the driver {name}"
        );
    }
    for pattern in patterns {
        assert!(
            registry::names().any(|name| fits(pattern, name)),
            "README.md names {pattern}, which is no driver"
        );
    }
}

/// Every Markdown file that a person may open.
fn pages() -> Vec<PathBuf> {
    let mut pages = vec![root().join("README.md")];
    let mut folders = vec![root().join("share/doc")];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder).expect("readable") {
            let path = entry.expect("readable").path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|extension| extension == "md") {
                pages.push(path);
            }
        }
    }
    pages
}

#[test]
fn every_link_leads_somewhere() {
    let pages = pages();
    assert!(pages.len() > 5, "the pages are found");
    for page in &pages {
        let text = std::fs::read_to_string(page).expect("readable");
        for link in text.split("](").skip(1) {
            let link = link.split(')').next().unwrap_or_default();
            let target = page.with_file_name(link);
            assert!(
                link.contains("://") || target.exists(),
                "{}: {link} leads nowhere",
                page.display()
            );
        }
    }
}

#[test]
fn every_config_in_the_pages_loads() {
    let mut loaded = 0;
    for page in pages() {
        let text = std::fs::read_to_string(&page).expect("readable");
        for block in text.split("```json\n").skip(1) {
            let block = block.split("```").next().unwrap_or_default().trim();
            // An entry stands as it would in its object.
            let whole = match block.starts_with('{') {
                true => block.to_owned(),
                false => format!("{{{block}}}"),
            };
            let value: serde_json::Value = serde_json::from_str(&whole)
                .unwrap_or_else(|error| panic!("{}: {error}: {block}", page.display()));
            if value.get("pdus").is_some() {
                let config = Config::parse(&whole, &page.display().to_string())
                    .unwrap_or_else(|error| panic!("{error}"));
                assert_eq!(config.findings, Findings::default());
                loaded += 1;
            }
        }
    }
    assert!(loaded > 1, "the configs are found");
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
    // Certificates lie beside the config that names them; one of the tree would end some day.
    let lab = Lab::new();
    Authority::for_the_example(&lab);
    for file in &files {
        // Parsed, not loaded: in a source tree everybody may read them, which is a warning.
        let text = std::fs::read_to_string(file).expect("readable");
        let beside = lab.path(&file.file_name().expect("a name").display().to_string());
        let config = Config::parse(&text, &beside.display().to_string())
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
