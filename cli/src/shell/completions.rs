//! Scripts that complete a command line: verbs, flags and words, which the parser knows, and runs
//! and steps, which the script asks for.
//!
//! It asks by verbs that are there for everybody: `highwater ls -o name` and `highwater graph -o
//! name`. What they do not answer within half a second is left out.

use std::fmt::Write as _;

use clap::{Arg, Command, CommandFactory};
use clap_complete::{Shell, generate};

use super::visible;
use crate::args::{Cli, ShellName};

const PROGRAM: &str = "highwater";

/// The script for a shell.
pub(crate) fn completions(shell: ShellName) -> String {
    let mut command = visible(&Cli::command());
    let generator = match shell {
        ShellName::Bash => Shell::Bash,
        ShellName::Zsh => Shell::Zsh,
        ShellName::Fish => Shell::Fish,
    };
    let mut script = Vec::new();
    generate(generator, &mut command, PROGRAM, &mut script);
    let script = String::from_utf8_lossy(&script).into_owned();
    let asking = asking(&command);
    match shell {
        ShellName::Bash => bash(
            script,
            &asking,
            &below(&command),
            &flags_with_values(&command),
        ),
        ShellName::Zsh => zsh(&script),
        ShellName::Fish => fish(script, &asking, &command),
    }
}

/// A verb whose words are runs, files or steps.
#[derive(Debug, PartialEq, Eq)]
struct Asking {
    /// `status`, or `cdc resync`.
    path: String,
    /// Whether its first word may be a run.
    takes_run: bool,
    /// Whether the words behind it are steps of that run or file.
    takes_steps: bool,
}

fn is_run(arg: &Arg) -> bool {
    matches!(arg.get_id().as_str(), "run" | "of")
}

fn is_step(arg: &Arg) -> bool {
    matches!(arg.get_id().as_str(), "selections" | "steps" | "step")
}

/// The verbs that take a run or steps.
fn asking(command: &Command) -> Vec<Asking> {
    fn walk(command: &Command, above: &str, found: &mut Vec<Asking>) {
        for verb in command.get_subcommands() {
            let path = format!("{above}{}", verb.get_name());
            let asking = Asking {
                takes_run: verb.get_positionals().next().is_some_and(is_run),
                takes_steps: verb.get_positionals().any(is_step),
                path: path.clone(),
            };
            if asking.takes_run || asking.takes_steps {
                found.push(asking);
            }
            walk(verb, &format!("{path} "), found);
        }
    }
    let mut found = Vec::new();
    walk(command, "", &mut found);
    found
}

/// The verbs that stand behind another one, each in quotes: `cdc resync`.
fn below(command: &Command) -> Vec<String> {
    let groups = command.get_subcommands();
    let verbs = groups.flat_map(|group| {
        let names = group.get_subcommands().map(Command::get_name);
        names.map(move |name| format!("'{} {name}'", group.get_name()))
    });
    verbs.collect()
}

/// The flags behind which a value stands.
fn flags_with_values(command: &Command) -> Vec<String> {
    fn walk(command: &Command, found: &mut Vec<String>) {
        for arg in command.get_arguments() {
            if arg.is_positional() || !arg.get_action().takes_values() {
                continue;
            }
            found.extend(arg.get_long().map(|long| format!("--{long}")));
            found.extend(arg.get_short().map(|short| format!("-{short}")));
        }
        command.get_subcommands().for_each(|verb| walk(verb, found));
    }
    let mut found = Vec::new();
    walk(command, &mut found);
    found.sort();
    found.dedup();
    found
}

/// Verb after verb, as a `case` of a shell lists them.
fn listed<'a>(verbs: impl Iterator<Item = &'a Asking>) -> String {
    let quoted: Vec<String> = verbs.map(|verb| format!("'{}'", verb.path)).collect();
    quoted.join("|")
}

fn bash(mut script: String, asking: &[Asking], below: &[String], with_values: &[String]) -> String {
    // What the parser knows comes first, and what is asked for is added to it.
    let own = "complete -F _highwater ";
    script = script.replace(own, "complete -F _highwater_all ");
    let functions = BASH
        .replace("@FLAGS@", &with_values.join("|"))
        .replace("@BELOW@", &below.join("|"))
        .replace(
            "@RUNS@",
            &listed(asking.iter().filter(|verb| verb.takes_run)),
        )
        .replace(
            "@STEPS@",
            &listed(asking.iter().filter(|verb| verb.takes_steps)),
        );
    format!("{functions}\n{script}")
}

const BASH: &str = r#"_highwater_ask() {
    if command -v timeout >/dev/null 2>&1; then
        timeout 0.5 highwater -q "$@" 2>/dev/null
    else
        highwater -q "$@" 2>/dev/null
    fi
}

_highwater_all() {
    _highwater "$@"
    local cur="${COMP_WORDS[COMP_CWORD]}" verb="" first="" word at
    local -a where=()
    [[ $cur == -* ]] && return
    for ((at = 1; at < COMP_CWORD; at++)); do
        word="${COMP_WORDS[at]}"
        case "$word" in
            --coordinator|--context|--state)
                where+=("$word" "${COMP_WORDS[at + 1]}")
                ((at++))
                ;;
            @FLAGS@) ((at++)) ;;
            -*) ;;
            *)
                case "$verb $word" in
                    " "*) verb="$word" ;;
                    @BELOW@) verb="$verb $word" ;;
                    *) [[ -z $first ]] && first="$word" ;;
                esac
                ;;
        esac
    done
    # The value of a flag is no run.
    ((at > COMP_CWORD)) && return
    local words=""
    if [[ -z $first ]]; then
        case "$verb" in
            @RUNS@) words="$(_highwater_ask "${where[@]}" ls -o name)" ;;
        esac
    else
        case "$verb" in
            @STEPS@) words="$(_highwater_ask "${where[@]}" graph "$first" -o name)" ;;
        esac
    fi
    [[ -n $words ]] && COMPREPLY+=($(compgen -W "$words" -- "$cur"))
    return 0
}
"#;

/// Puts functions of our own where the script completes a run or a step by file names.
fn zsh(script: &str) -> String {
    let mut out = String::new();
    let mut lines = script.lines();
    // What makes it a completion has to stay its first line.
    let _ = lines.next().map(|first| writeln!(out, "{first}\n{ZSH}"));
    for line in lines {
        let id = line.trim_start().trim_start_matches(['\'', '*', ':']);
        let by = match id.split_once(" -- ").map(|(id, _)| id) {
            Some("run" | "of") => "_highwater_runs",
            Some("selections" | "steps" | "step") => "_highwater_steps",
            Some(_) | None => "_default",
        };
        let _ = writeln!(out, "{}", line.replace(":_default'", &format!(":{by}'")));
    }
    out
}

const ZSH: &str = r#"
_highwater_ask() {
    if (( $+commands[timeout] )); then
        timeout 0.5 highwater -q "$@" 2>/dev/null
    else
        highwater -q "$@" 2>/dev/null
    fi
}

_highwater_runs() {
    local -a runs
    runs=(${(f)"$(_highwater_ask ls -o name)"})
    compadd -a runs
    _files
}

_highwater_steps() {
    local -a steps
    local word
    for word in ${words[2,$((CURRENT - 1))]}; do
        [[ $word == -* ]] && continue
        steps=(${(f)"$(_highwater_ask graph $word -o name)"})
        (( $#steps )) && break
    done
    compadd -a steps
}
"#;

fn fish(mut script: String, asking: &[Asking], command: &Command) -> String {
    script.push_str(FISH);
    for verb in asking {
        let mut words = verb.path.split(' ');
        let seen = words.next().unwrap_or_default();
        let mut seen = format!("__fish_seen_subcommand_from {seen}");
        if let Some(below) = words.next() {
            let _ = write!(seen, "; and __fish_seen_subcommand_from {below}");
        } else if let Some(group) = command.find_subcommand(&verb.path) {
            let below: Vec<&str> = group.get_subcommands().map(Command::get_name).collect();
            if !below.is_empty() {
                let below = below.join(" ");
                let _ = write!(seen, "; and not __fish_seen_subcommand_from {below}");
            }
        }
        if verb.takes_run {
            let _ = writeln!(
                script,
                "complete -c highwater -n \"{seen}\" -a \"(__highwater_runs)\""
            );
        }
        if verb.takes_steps {
            let _ = writeln!(
                script,
                "complete -c highwater -n \"{seen}\" -a \"(__highwater_steps)\""
            );
        }
    }
    script
}

const FISH: &str = r#"
function __highwater_ask
    if command -q timeout
        timeout 0.5 highwater -q $argv 2>/dev/null
    else
        highwater -q $argv 2>/dev/null
    end
end

function __highwater_runs
    __highwater_ask ls -o name
end

function __highwater_steps
    for word in (commandline -opc)[3..-1]
        string match -q -- '-*' $word; and continue
        set -l steps (__highwater_ask graph $word -o name)
        if test (count $steps) -gt 0
            printf '%s\n' $steps
            return
        end
    end
end

"#;
