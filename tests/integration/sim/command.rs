//! Local programs that record how they are called and answer from the transcript. One script
//! stands behind every program name of the case; `{dir}` in the case's settings is their folder. In the
//! folder `exec` it is one program that stays running, `{dir}/driver`: its first pair of lines is
//! `hello`, the others are questions and answers as they are.

use super::Simulator;
use crate::transcript::{Case, Line, bytes};
use std::path::Path;
use tempfile::TempDir;

pub(crate) struct Programs {
    folder: TempDir,
    settings: serde_json::Value,
    calls: Vec<Vec<String>>,
}

/// What stands behind every name. A file of the repository: one that was just written may still be
/// open for writing in a process that another thread forks, and then cannot be run.
const SCRIPT: &str = concat!(
    env!("CARGO_MANIFEST_DIR"),
    "/tests/integration/sim/program.sh"
);

/// What stands behind a driver that stays running.
const COMPANION: &str = concat!(
    env!("CARGO_MANIFEST_DIR"),
    "/tests/integration/sim/companion.sh"
);

pub(crate) fn start(case: &Case) -> Programs {
    let folder = tempfile::tempdir().expect("a folder");
    let dir = folder.path();
    let mut calls = Vec::new();
    write(dir, "number", b"0\n");
    if case.transport == "exec" {
        std::os::unix::fs::symlink(COMPANION, dir.join("driver")).expect("a program");
    }
    let mut lines = case.lines.as_slice();
    // What the program tells of itself whenever it starts.
    if let [Line::Sent(hello), Line::Answer(answer), rest @ ..] = lines
        && hello == "hello"
    {
        write(dir, "hello.out", format!("{answer}\n").as_bytes());
        lines = rest;
    }
    // What an agent says of itself, at any time.
    if let [Line::Sent(metadata), Line::Answer(answer), rest @ ..] = lines
        && metadata == "metadata"
    {
        write(dir, "metadata.out", &bytes(answer));
        let agent = case.settings["agent"].as_str().expect("a path");
        let agent = agent.replace("{dir}/", "");
        std::os::unix::fs::symlink(SCRIPT, dir.join(agent)).expect("a program");
        lines = rest;
    }
    for line in lines {
        match line {
            Line::Sent(question) if case.transport == "exec" => calls.push(vec![question.clone()]),
            Line::Answer(answer) if case.transport == "exec" => {
                let name = format!("{}.out", calls.len() - 1);
                write(dir, &name, format!("{answer}\n").as_bytes());
            }
            Line::Sent(words) => {
                let words = shlex::split(words).unwrap_or_else(|| panic!("{}: words", case.at));
                let program = words.first().expect("a program");
                if !dir.join(program).exists() {
                    std::os::unix::fs::symlink(SCRIPT, dir.join(program)).expect("a program");
                }
                calls.push(words);
            }
            Line::Answer(answer) => {
                let number = calls
                    .len()
                    .checked_sub(1)
                    .expect("a call before its answer");
                let (kind, content) = match answer.split_once(' ') {
                    Some(("exit", status)) => ("exit", format!("{status}\n").into_bytes()),
                    Some(("err", text)) => ("err", bytes(text)),
                    _ => ("out", bytes(answer)),
                };
                let name = format!("{number}.{kind}");
                let mut whole = std::fs::read(dir.join(&name)).unwrap_or_default();
                whole.extend(content);
                write(dir, &name, &whole);
            }
        }
    }
    let text = serde_json::to_string(&case.settings).expect("settings");
    let text = text.replace("{dir}", &dir.display().to_string());
    Programs {
        settings: serde_json::from_str(&text).expect("settings"),
        folder,
        calls,
    }
}

fn write(dir: &Path, name: &str, content: &[u8]) {
    std::fs::write(dir.join(name), content).expect("a file");
}

impl Programs {
    /// From now on every program does `fault`, shell words, instead; nothing: it is mended.
    pub(crate) fn spoil(&self, fault: Option<&str>) {
        match fault {
            Some(fault) => write(self.folder.path(), "fault", fault.as_bytes()),
            None => {
                let _ = std::fs::remove_file(self.folder.path().join("fault"));
            }
        }
    }
}

impl Simulator for Programs {
    fn overrides(&self) -> serde_json::Value {
        self.settings.clone()
    }

    fn finish(self: Box<Self>) -> Result<(), String> {
        let recorded =
            std::fs::read_to_string(self.folder.path().join("calls")).unwrap_or_default();
        let calls: Vec<Vec<String>> = recorded
            .split_terminator("\0\n")
            .map(|call| call.split('\0').map(str::to_owned).collect())
            .collect();
        if calls == self.calls {
            Ok(())
        } else {
            Err(format!(
                "expected the calls {:?}, got {calls:?}",
                self.calls
            ))
        }
    }
}
