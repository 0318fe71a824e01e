//! What the command tells a shell, the manual and a person of itself.

use std::os::unix::fs::PermissionsExt as _;

use highwater_integration_tests::Binary;
use serde_json::Value;

use crate::site::{Engine, LIMIT, Site, assert_exit, assert_says};

#[tokio::test]
async fn bash_completes_runs_and_steps() {
    // GIVEN a run, and a shell that has read the script; however slow this machine is
    let site = Site::with_events(Engine::Sqlite, "{mode: append}").await;
    assert_exit(&site.run().await, 0);
    let run = site.status().await["run"].as_str().unwrap().to_owned();
    let script = site.finish(&["completions", "bash"]).await;
    assert_exit(&script, 0);
    std::fs::write(site.path("completions.bash"), &script.stdout).unwrap();
    let programs = site.path("programs");
    std::fs::create_dir(&programs).unwrap();
    let highwater = Binary::highwater().await.unwrap();
    std::os::unix::fs::symlink(highwater.path(), programs.join("highwater")).unwrap();
    std::fs::write(programs.join("timeout"), "#!/bin/sh\nshift\nexec \"$@\"\n").unwrap();
    let executable = std::fs::Permissions::from_mode(0o755);
    std::fs::set_permissions(programs.join("timeout"), executable).unwrap();
    let path = format!("{}:{}", programs.display(), std::env::var("PATH").unwrap());
    let offered = async |words: &str| {
        let line = format!(
            "source ./completions.bash; COMP_WORDS=({words}); COMP_CWORD=$((${{#COMP_WORDS[@]}} - 1)); \
             _highwater_all highwater \"${{COMP_WORDS[COMP_CWORD]}}\" \"${{COMP_WORDS[COMP_CWORD - 1]}}\"; \
             printf '%s\\n' \"${{COMPREPLY[@]}}\""
        );
        let bash = Binary::at("bash").args(["--norc", "-c", &line]);
        let bash = bash.env("PATH", &path).current_folder(site.path(""));
        let asked = bash.run(LIMIT).await.unwrap();
        assert_exit(&asked, 0);
        assert_eq!(asked.stderr, "", "{words}");
        let words: Vec<String> = asked.stdout.lines().map(str::to_owned).collect();
        words
    };
    for (words, expected) in [
        // runs, also behind flags with values
        ("highwater status ''", run.as_str()),
        ("highwater --state .highwater -o json retry ''", &run),
        // steps of a run, and of a file
        (&format!("highwater retry {run} ''"), "events"),
        ("highwater run pipeline.yaml ''", "events"),
        ("highwater cdc resync pipeline.yaml ''", "events"),
        ("highwater coverage pipeline.yaml ev", "events"),
        // what the parser knows
        ("highwater run --det", "--detach"),
        ("highwater re", "retry"),
    ] {
        let words_offered = offered(words).await;
        assert!(
            words_offered.iter().any(|word| word == expected),
            "{words}: {words_offered:?}"
        );
    }
    // AND nothing where there is nothing, and no folder is made by asking
    let elsewhere = offered("highwater --state nowhere status ''").await;
    assert!(!elsewhere.contains(&run), "{elsewhere:?}");
    assert!(!site.path("nowhere").exists());
    let value = offered("highwater status --state ''").await;
    assert!(!value.contains(&run), "{value:?}");
}

#[tokio::test]
async fn pages_of_the_manual_are_written_to_a_folder() {
    let site = Site::empty(Engine::Sqlite).await;
    let written = site.finish(&["man", "pages"]).await;
    assert_exit(&written, 0);
    assert_says(&written.stderr, "pages in pages");
    let page = std::fs::read_to_string(site.path("pages/highwater-cdc-resync.1")).unwrap();
    assert!(page.contains("highwater\\-cdc\\-resync"), "{page}");
    let whole = site.finish(&["man"]).await;
    assert_says(&whole.stdout, ".TH highwater 1");
}

#[tokio::test]
async fn every_setting_says_where_it_comes_from() {
    // GIVEN settings by flag, by variable, by file and by nobody
    let site = Site::empty(Engine::Sqlite).await;
    std::fs::create_dir_all(site.path("home/highwater")).unwrap();
    let file = site.path("home/highwater/config.yaml");
    let prod = "contexts: {prod: {coordinator: [https://c1:7070], tls: {ca: ca.pem}}}";
    std::fs::write(&file, prod).unwrap();
    let view = async |args: &[&str], variables: &[(&str, &str)]| {
        let args = [&["config", "view", "--show-origin", "-o", "json"], args].concat();
        let view = site
            .highwater(&args)
            .await
            .env("XDG_CONFIG_HOME", site.path("home"));
        let view = variables
            .iter()
            .fold(view, |view, (name, value)| view.env(name, value));
        let shown = view.run(LIMIT).await.unwrap();
        assert_exit(&shown, 0);
        serde_json::from_str::<Value>(&shown.stdout).unwrap()
    };
    let setting = |shown: &Value, name: &str| {
        let rows = shown["settings"].as_array().unwrap();
        let row = rows.iter().find(|row| row["setting"] == name).unwrap();
        let text = |key: &str| row[key].as_str().unwrap_or("-").to_owned();
        [text("value"), text("origin"), text("where")]
    };
    // WHEN they are shown THEN each has its value, and who said so
    let shown = view(
        &["--context", "prod", "--no-input"],
        &[
            ("HIGHWATER_ALLOW_EXEC", "/opt/jobs:/opt/more"),
            ("HIGHWATER_OPERATOR", "ann"),
            ("HIGHWATER_ENV", "dev"),
            ("NO_COLOR", "1"),
        ],
    )
    .await;
    assert_eq!(shown["schema"], "config/v1");
    let config = file.display().to_string();
    let ca = site.path("home/highwater/ca.pem").display().to_string();
    for (name, expected) in [
        ("context", ["prod", "flag", "--context"]),
        ("coordinator", ["https://c1:7070", "file", &config]),
        ("tls-ca", [&ca, "file", &config]),
        ("tls-key", ["-", "default", "-"]),
        ("state", [".highwater", "default", "-"]),
        ("no-input", ["true", "flag", "--no-input"]),
        (
            "allow-exec",
            ["/opt/jobs,/opt/more", "variable", "HIGHWATER_ALLOW_EXEC"],
        ),
        ("operator", ["ann", "variable", "HIGHWATER_OPERATOR"]),
        ("env", ["dev", "variable", "HIGHWATER_ENV"]),
        ("color", ["never", "variable", "NO_COLOR"]),
        ("contexts-file", [&config, "variable", "XDG_CONFIG_HOME"]),
    ] {
        assert_eq!(setting(&shown, name), expected, "{name}");
    }
    // AND no password is shown
    let address = ("HIGHWATER_COORDINATOR", "https://ann:hunter2@c2:7070");
    let shown = view(&["--state", "x"], &[address]).await;
    assert!(!shown.to_string().contains("hunter2"), "{shown}");
    let [_, origin, place] = setting(&shown, "coordinator");
    assert_eq!([origin, place], ["variable", "HIGHWATER_COORDINATOR"]);
    assert_eq!(setting(&shown, "state"), ["x", "flag", "--state"]);
    // AND what was chosen once holds until somebody says otherwise
    let choose = site.highwater(&["context", "use", "prod"]).await;
    let chosen = choose
        .env("XDG_CONFIG_HOME", site.path("home"))
        .run(LIMIT)
        .await;
    assert_exit(&chosen.unwrap(), 0);
    let current = site
        .path("home/highwater/current-context")
        .display()
        .to_string();
    assert_eq!(
        setting(&view(&[], &[]).await, "context"),
        ["prod", "file", &current]
    );
    // AND people see the same as a table
    let table = site
        .finish(&["config", "view", "--show-origin", "--state", "y"])
        .await;
    assert_says(&table.stdout, "state");
    assert_says(&table.stdout, "--state");
}
