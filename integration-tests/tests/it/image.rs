//! The image: the three programs and the libraries they load, and nothing else.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use highwater_integration_tests::{Binary, repository};
use serde_json::{Value, json};

use super::site::{DAYS, Engine, Site};

const PROGRAMS: [&str; 3] = ["highwater", "highwater-coordinator", "highwater-worker"];
/// Who runs in the image.
const USER: u32 = 65_532;

/// Runs a program to its end, which has to be a good one.
fn run(command: &mut Command) -> Output {
    let output = command
        .output()
        .unwrap_or_else(|error| panic!("{command:?}: {error}"));
    let told = String::from_utf8_lossy(&output.stderr);
    assert!(
        output.status.success(),
        "{command:?}: {}\n{told}",
        output.status
    );
    output
}

/// The libraries that a program loads, and what loads them.
fn libraries(program: &Path) -> BTreeSet<PathBuf> {
    let told = run(Command::new("ldd").arg(program)).stdout;
    let told = String::from_utf8(told).unwrap();
    let words = told.split_whitespace();
    words
        .filter(|word| word.starts_with('/'))
        .map(PathBuf::from)
        .collect()
}

/// The last stage of the Dockerfile, on nothing but libraries.
fn containerfile() -> String {
    let dockerfile = std::fs::read_to_string(repository().join("Dockerfile")).unwrap();
    let (_, last) = dockerfile.rsplit_once("FROM ").unwrap();
    let (_, last) = last.split_once('\n').unwrap();
    let copies = "COPY --from=build /out/ /usr/local/bin/";
    assert!(last.contains(copies), "{last}");
    format!(
        "FROM scratch\nCOPY libraries /\n{}",
        last.replace(copies, "COPY out /usr/local/bin/")
    )
}

/// The image as a bundle for runc, built and unpacked without a daemon. `None` where a tool for it
/// is missing.
fn bundle(folder: &Path) -> Option<PathBuf> {
    let tools = ["buildah", "skopeo", "umoci", "runc"];
    let is_there = |tool: &&str| Command::new(tool).arg("--version").output().is_ok();
    if let Some(missing) = tools.iter().find(|tool| !is_there(tool)) {
        eprintln!("THE IMAGE IS NOT BUILT, and its files run by chroot: there is no {missing}");
        return None;
    }
    let tool = |name: &str| {
        let mut command = Command::new(name);
        command.current_dir(folder).env("TMPDIR", folder);
        command
            .env("STORAGE_DRIVER", "vfs")
            .env("BUILDAH_ISOLATION", "chroot");
        command
    };
    let buildah = || {
        let mut command = tool("buildah");
        command.args(["--root", "store", "--runroot", "run"]);
        command
    };
    std::fs::write(folder.join("Containerfile"), containerfile()).unwrap();
    run(buildah().args(["bud", "--quiet", "--format", "oci", "--tag", "hw:dev", "."]));
    run(buildah().args(["push", "--quiet", "hw:dev", "oci-archive:hw.tar:dev"]));
    let copy = [
        "copy",
        "--quiet",
        "--insecure-policy",
        "oci-archive:hw.tar:dev",
        "oci:layout:dev",
    ];
    run(tool("skopeo").args(copy));
    run(tool("umoci").args(["unpack", "--image", "layout:dev", "bundle"]));
    eprintln!("the image runs by runc");
    Some(folder.join("bundle"))
}

/// How the image's programs are run.
enum Runner {
    /// In a container, as the image says.
    Runc(PathBuf),
    /// In its files alone.
    Chroot(PathBuf),
}

impl Runner {
    /// Runs a command in the image, with this folder as `/work`.
    fn run(&self, no: u32, work: &Path, command: &[&str]) -> Output {
        match self {
            Self::Runc(bundle) => {
                let file = bundle.join("config.json");
                let config = std::fs::read(&file).unwrap();
                let mut config: Value = serde_json::from_slice(&config).unwrap();
                assert_eq!(config["process"]["user"]["uid"], USER, "{config:#}");
                config["process"]["terminal"] = json!(false);
                config["process"]["args"] = json!(command);
                config["process"]["cwd"] = json!("/work");
                config["root"]["readonly"] = json!(true);
                config["linux"].as_object_mut().unwrap().remove("resources");
                let mounts = config["mounts"].as_array_mut().unwrap();
                mounts.retain(|mount| mount["destination"] != "/work");
                mounts.push(json!({
                    "destination": "/work", "type": "bind", "source": work,
                    "options": ["bind", "rw"],
                }));
                std::fs::write(&file, config.to_string()).unwrap();
                let state = bundle.with_file_name("state");
                let mut runc = Command::new("runc");
                runc.arg("--root")
                    .arg(state)
                    .args(["run", "--bundle"])
                    .arg(bundle);
                let id = format!("highwater-{}-{no}", std::process::id());
                runc.arg(id).output().unwrap()
            }
            Self::Chroot(root) => {
                // Only root's folder is there: what is worked on goes in and comes out again.
                let mut copy = Command::new("cp");
                run(copy.arg("--archive").arg(work.join(".")).arg(root));
                let mut chroot = Command::new("/usr/sbin/chroot");
                chroot.arg(format!("--userspec={USER}:{USER}")).arg(root);
                chroot
                    .env_clear()
                    .env("PATH", "/usr/local/bin")
                    .args(command);
                let told = chroot.output().unwrap();
                let target = root.join("target.db");
                if target.exists() {
                    std::fs::copy(target, work.join("target.db")).unwrap();
                }
                told
            }
        }
    }
}

#[tokio::test]
async fn image_runs_without_shell() {
    // GIVEN the programs and the libraries they load, as an image on nothing
    let folder = tempfile::tempdir().unwrap();
    let (out, libs) = (folder.path().join("out"), folder.path().join("libraries"));
    std::fs::create_dir_all(&out).unwrap();
    for program in PROGRAMS {
        let built = match program {
            "highwater" => Binary::highwater().await,
            "highwater-coordinator" => Binary::coordinator().await,
            _ => Binary::worker().await,
        };
        let built = built.unwrap().path().to_owned();
        for library in libraries(&built) {
            let to = libs.join(library.strip_prefix("/").unwrap());
            std::fs::create_dir_all(to.parent().unwrap()).unwrap();
            std::fs::copy(&library, &to).unwrap();
        }
        std::fs::copy(&built, out.join(program)).unwrap();
    }
    for there in ["work", "proc", "sys", "dev"] {
        std::fs::create_dir_all(libs.join(there)).unwrap();
    }
    // AND a pipeline between two SQLite files that its user may write
    let site = Site::with_events(Engine::Sqlite, "{mode: append}").await;
    let work = site.path("");
    run(Command::new("chown")
        .args(["-R", &format!("{USER}:{USER}")])
        .arg(&work));
    let runner = match bundle(folder.path()) {
        Some(bundle) => Runner::Runc(bundle),
        None => {
            std::fs::create_dir_all(libs.join("usr/local")).unwrap();
            std::fs::rename(&out, libs.join("usr/local/bin")).unwrap();
            run(Command::new("chown")
                .arg(format!("{USER}:{USER}"))
                .arg(&libs));
            Runner::Chroot(libs.clone())
        }
    };
    // THEN each program tells its version
    for (no, program) in (0..).zip(PROGRAMS) {
        let verb = if program == "highwater" {
            "version"
        } else {
            "--version"
        };
        let told = runner.run(no, &work, &[program, verb]);
        assert!(told.status.success(), "{told:?}");
        let told = String::from_utf8(told.stdout).unwrap();
        assert!(told.contains(env!("CARGO_PKG_VERSION")), "{told}");
    }
    // AND a whole run comes to its end
    let ran = runner.run(10, &work, &["highwater", "run", "pipeline.yaml"]);
    assert!(ran.status.success(), "{ran:?}");
    site.assert_copied_once(DAYS).await;
    // AND there is no shell, nor anything else to run
    let shell = runner.run(11, &work, &["sh", "-c", "true"]);
    assert!(!shell.status.success());
}
