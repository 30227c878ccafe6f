//! The build script: makes the table of the shipped profiles from the folder `share/profiles`.
//!
//! Only ids and aliases are looked at here, so that the daemon parses no profile but those that its
//! config names.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::print_stdout,
    reason = "a build script speaks to cargo by its output, and a panic ends the build"
)]

use std::fmt::Write;
use std::path::Path;
use std::{env, fs};

fn main() {
    let root = env::var("CARGO_MANIFEST_DIR").expect("cargo sets it");
    let folder = Path::new(&root).join("share/profiles");
    println!("cargo::rerun-if-changed={}", folder.display());
    let files = fs::read_dir(&folder).expect("share/profiles is there");
    let mut files: Vec<_> = files.map(|file| file.expect("readable").path()).collect();
    files.retain(|file| {
        file.extension()
            .is_some_and(|extension| extension == "toml")
    });
    files.sort();
    let mut table = String::from("&[\n");
    for file in files {
        println!("cargo::rerun-if-changed={}", file.display());
        let text = fs::read_to_string(&file).expect("a profile is UTF-8 text");
        let id = file
            .file_stem()
            .expect("a name")
            .to_string_lossy()
            .into_owned();
        let path = file.to_string_lossy();
        writeln!(
            table,
            "({id:?}, &{:?}, include_str!({path:?})),",
            aliases(&text)
        )
        .unwrap();
    }
    table.push(']');
    let out = env::var("OUT_DIR").expect("cargo sets it");
    fs::write(Path::new(&out).join("profiles.rs"), table).expect("OUT_DIR can be written");
}

/// The texts of the line `aliases = [...]`; a test holds them against the whole file's.
fn aliases(text: &str) -> Vec<&str> {
    let line = text
        .lines()
        .find_map(|line| line.strip_prefix("aliases = ["));
    let quoted = line
        .into_iter()
        .flat_map(|line| line.split('"').skip(1).step_by(2));
    quoted.collect()
}
