use clap::CommandFactory;

use super::*;

fn parse(line: &str) -> Result<Cli, clap::Error> {
    Cli::try_parse_from(line.split_whitespace())
}

#[test]
fn the_command_line_is_consistent() {
    Cli::command().debug_assert();
}

#[test]
fn flags_of_every_verb_may_stand_anywhere() {
    for line in [
        "highwater -o json --state x status r-71c",
        "highwater status r-71c --state x -o json",
    ] {
        let cli = parse(line).unwrap();
        assert_eq!(cli.global.output, OutputForm::Json);
        assert_eq!(cli.global.state, PathBuf::from("x"));
        assert!(
            matches!(cli.command, Command::Status { run: Some(run), all: false } if run == "r-71c")
        );
    }
}

#[test]
fn run_takes_parameters_in_order() {
    let cli =
        parse("highwater run p.yaml --param since=2024-01-01 --param note=a=b --workers 8 --new")
            .unwrap();
    let Command::Run(args) = cli.command else {
        panic!("{:?}", cli.command)
    };
    let expected = [
        ("since".to_owned(), "2024-01-01".to_owned()),
        ("note".to_owned(), "a=b".to_owned()),
    ];
    assert_eq!(
        (args.pipeline.over.params.as_slice(), args.workers, args.new),
        (expected.as_slice(), 8, true)
    );
}

#[test]
fn what_is_not_supported_is_refused() {
    for line in [
        "highwater",
        "highwater run",
        "highwater status -o yaml",
        "highwater status -o wide",
        "highwater run p.yaml --workers 0",
        "highwater run p.yaml --param since",
        "highwater run p.yaml --param =x",
        "highwater cancel r-71c",
        "highwater cancel --reason x",
        "highwater ls -q -v",
        "highwater pause r-71c",
    ] {
        let error = parse(line).expect_err(line);
        assert_eq!(error.exit_code(), 2, "{line}");
    }
}

#[test]
fn help_and_version_are_no_errors() {
    for line in [
        "highwater --help",
        "highwater run --help",
        "highwater --version",
        "highwater cluster status -h",
    ] {
        assert_eq!(parse(line).expect_err(line).exit_code(), 0, "{line}");
    }
}

#[test]
fn help_shows_every_verb_and_the_exit_codes() {
    let help = Cli::command().render_help().to_string();
    insta::assert_snapshot!(help, @r"
    Copies large tables between databases, in parallel and exactly once

    Usage: highwater [OPTIONS] <COMMAND>

    Commands:
      validate     Reads a pipeline file and reports everything that is wrong with it; needs no network
      init         Writes a pipeline file of a database's tables, each loaded as it fits; `advise` says why
      advise       Looks at tables and says which way to load each, and why; changes nothing
      connections  The databases of a pipeline file
      graph        Draws the steps of a pipeline file or of a run, and what each waits for
      plan         Probes the sources and shows what a run would do; changes nothing
      run          Runs a pipeline, or goes on with its unfinished run, and follows it to its end
      backfill     Plans and runs a range of one step: what is missing of it, or all of it once more
      status       Shows a run: counts by state, why tasks wait, what failed
      ls           Lists runs, newest first
      tasks        Lists the tasks of a run
      logs         Shows what happened to a run's tasks lately
      wait         Blocks until a run has ended, then ends with the run's own code
      workers      The workers of a cluster
      retry        Tries dead tasks of a run again, and the steps skipped after them
      accept       Lets a run go on without tasks that are dead: what they would have loaded stays missing
      resolve      Says whether a task that is in doubt was done, and lets its run go on
      pause        Holds a run back, or some of it: what runs may end, and nothing more begins
      resume       Lets a run go on that was held back
      limits       Shows or changes how much of a run may be under way at once
      skip         Leaves out steps that have not begun; what needs them is skipped with them
      cancel       Cancels a run, and answers once its targets are fenced: nothing of it commits afterwards
      coverage     Shows what the targets' ledgers hold of a pipeline's steps, and voids what is no longer true
      watermarks   Where the steps' watermarks stand in their targets
      cdc          The steps that follow a log
      swap         The tables that swaps have exchanged
      schedules    The pipelines that a cluster runs by itself
      cluster      The cluster itself
      context      The clusters that the configuration file names
      config       The settings of the command
      completions  Prints a script by which a shell completes command lines, also with runs and steps
      man          Prints the page of the manual, or writes those of all verbs to a folder
      schema       Prints the JSON Schema of the pipeline file
      version      Prints the version

    Options:
      -h, --help     Print help (see more with '--help')
      -V, --version  Print version

    Everywhere:
      -o, --output <OUTPUT>          Form of what goes to stdout [default: table] [possible values: table, json, name]
      -q, --quiet                    Nothing on stderr but errors
      -v, --verbose...               Log to stderr; twice: more
          --no-input                 Never ask
      -y, --yes                      Answer yes to the question whether to go on
          --color <COLOR>            Colours [default: auto] [possible values: auto, always, never]
          --progress <PROGRESS>      How a run that is followed tells of itself, on stderr [default: auto] [possible values: auto, bar, lines, json, none]
          --coordinator <URL[,URL]>  Addresses of a cluster's coordinators, with commas between [env: HIGHWATER_COORDINATOR]; without any, and without a context, everything happens in this process
          --context <NAME>           A cluster by the name that the configuration file gives it [env: HIGHWATER_CONTEXT]; `embedded` is this process
          --state <DIR>              Folder of the state, when everything happens in this process [default: .highwater]
          --allow-exec <PATH>        A program that steps may run in this process, or a folder of such; may be given several times [env: HIGHWATER_ALLOW_EXEC]

    To a cluster over TLS:
          --tls-ca <FILE>           The authorities that signed the coordinators' certificates, for https [env: HIGHWATER_TLS_CA]
          --tls-cert <FILE>         A certificate of our own, where coordinators ask for one [env: HIGHWATER_TLS_CERT]
          --tls-key <FILE>          The key of that certificate [env: HIGHWATER_TLS_KEY]
          --tls-server-name <NAME>  The name that the coordinators' certificates are for, if not the host [env: HIGHWATER_TLS_SERVER_NAME]
          --token-file <FILE>       The file of the token that says to a cluster who you are; HIGHWATER_TOKEN holds one itself [env: HIGHWATER_TOKEN_FILE]

    Examples:
      highwater advise '${env:SHOP_URL}'      which way to load which table? changes nothing
      highwater validate pipeline.yaml      is the file right?
      highwater plan pipeline.yaml          what would be done? changes nothing
      highwater run pipeline.yaml           runs it, or goes on with an unfinished run
      highwater status                      the latest run, and why it waits
      highwater retry r-71c                 tries again only what failed

    Exit codes:
      0 success    2 usage, invalid file    3 failed, part committed    4 nothing selected    5 unreachable
      6 refused    7 failed, nothing committed    8 cancelled    9 in doubt    10 work to do    124 timed out    130 interrupted    1 unexpected
    ");
}
