//! What shells and the manual know is what the parser takes.

use std::io::{ErrorKind, Write};
use std::process::{Command as Process, Stdio};

use clap::{Command, CommandFactory};

use super::{completions, page, write_pages};
use crate::args::{Cli, ShellName};

/// What a program says of a text, and whether it took it; `None` where there is no such program.
fn fed(program: &str, args: &[&str], text: &[u8]) -> Option<(bool, String)> {
    let child = Process::new(program)
        .args(args)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn();
    let mut child = match child {
        Ok(child) => child,
        Err(error) if error.kind() == ErrorKind::NotFound => return None,
        Err(error) => panic!("{program}: {error}"),
    };
    let mut stdin = child.stdin.take().unwrap();
    let text = text.to_vec();
    let writer = std::thread::spawn(move || stdin.write_all(&text));
    let output = child.wait_with_output().unwrap();
    writer.join().unwrap().unwrap();
    let said = [output.stdout, output.stderr].concat();
    Some((
        output.status.success(),
        String::from_utf8_lossy(&said).into_owned(),
    ))
}

/// Every verb that people see, with its path: `highwater`, `highwater cdc resync`.
fn verbs(command: &Command, above: &[String], found: &mut Vec<(Vec<String>, Command)>) {
    let mut path = above.to_vec();
    path.push(command.get_name().to_owned());
    found.push((path.clone(), command.clone()));
    let below = command.get_subcommands().filter(|verb| !verb.is_hide_set());
    below.for_each(|verb| verbs(verb, &path, found));
}

/// The words that a bash script offers behind a verb.
fn words_of_bash(script: &str, path: &[String]) -> Vec<String> {
    let names = path.join("__subcmd__").replace('-', "__");
    let label = format!("        {names})\n");
    let at = script.find(&label).unwrap_or_else(|| panic!("no {label}"));
    let words = script[at..].split("opts=\"").nth(1).unwrap();
    let words = words.split('"').next().unwrap();
    words.split_whitespace().map(str::to_owned).collect()
}

#[test]
fn completions_and_man_match_parser() {
    // GIVEN every verb and every flag of the parser
    let mut command = Cli::command();
    command.build();
    let mut all = Vec::new();
    verbs(&command, &[], &mut all);
    assert!(all.len() > 40, "{}", all.len());
    let shells = [ShellName::Bash, ShellName::Zsh, ShellName::Fish];
    let [bash, zsh, fish] = shells.map(completions);
    let folder = tempfile::tempdir().unwrap();
    let pages = write_pages(folder.path()).unwrap();
    assert_eq!(pages.len(), all.len());
    for (path, verb) in &all {
        // THEN each stands in the script, behind its verb, and in the verb's page
        let words = words_of_bash(&bash, path);
        let page = folder.path().join(format!("{}.1", path.join("-")));
        let page = std::fs::read_to_string(&page).unwrap();
        let name = path.join(" ");
        for flag in verb.get_arguments() {
            let Some(long) = flag.get_long() else {
                continue;
            };
            let dashed = format!("--{long}");
            let roff = dashed.replace('-', "\\-");
            let is_seen = !flag.is_hide_set();
            assert_eq!(words.contains(&dashed), is_seen, "bash: {name} {dashed}");
            assert_eq!(page.contains(&roff), is_seen, "man: {name} {dashed}");
            assert_eq!(zsh.contains(&dashed), is_seen, "zsh: {name} {dashed}");
            let of_fish = format!(" -l {long} ");
            assert_eq!(fish.contains(&of_fish), is_seen, "fish: {name} {dashed}");
        }
        for below in verb.get_subcommands() {
            let offered = words.iter().any(|word| word == below.get_name());
            assert_eq!(
                offered,
                !below.is_hide_set(),
                "bash: {name} {}",
                below.get_name()
            );
        }
    }
    // AND what asks for runs and steps stands where they are taken
    assert!(bash.contains("complete -F _highwater_all -o"), "{bash}");
    for verb in ["status", "retry", "graph", "cancel"] {
        assert!(bash.contains(&format!("'{verb}'")), "{verb}");
        let seen = format!("__fish_seen_subcommand_from {verb}");
        assert!(fish.contains(&seen), "{verb}");
    }
    for function in [":_highwater_runs'", ":_highwater_steps'"] {
        assert!(zsh.matches(function).count() > 5, "{function}");
    }
    // AND shells and groff read what is written, where there are any
    for (program, args, text) in [
        ("bash", &["-n"][..], bash.as_bytes()),
        ("zsh", &["-n"], zsh.as_bytes()),
        ("fish", &["--no-execute"], fish.as_bytes()),
    ] {
        if let Some((is_legal, said)) = fed(program, args, text) {
            assert!(is_legal && said.is_empty(), "{program}: {said}");
        }
    }
    let page = page().unwrap();
    if let Some((is_legal, said)) = fed("groff", &["-man", "-Tutf8", "-ww"], &page) {
        assert!(is_legal, "{said}");
        assert!(said.contains("highwater-run(1)"), "{said}");
        assert!(!said.contains("warning:"), "{said}");
    }
}
