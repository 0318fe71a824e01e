//! A PostgreSQL of a test's own, in a temporary folder, gone with the test.

use std::io::{BufRead, BufReader};
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

pub(super) const PASSWORD: &str = "s3cr3t-of-the-test";

pub(super) struct Server {
    child: Child,
    port: u16,
    home: tempfile::TempDir,
}

impl Server {
    pub(super) fn start() -> Self {
        let home = tempfile::Builder::new()
            .prefix("highwater-pg-")
            .tempdir()
            .expect("a temporary folder");
        let data = home.path().join("data");
        if is_root() {
            run(Command::new("chown").arg("postgres").arg(home.path()));
        }
        run(Command::new("cp").arg("-a").arg(template()).arg(&data));
        let port = free_port();
        let mut child = as_postgres("postgres", home.path())
            .arg("-D")
            .arg(&data)
            .args([
                "-c",
                "listen_addresses=127.0.0.1",
                "-c",
                "fsync=off",
                "-c",
                "max_connections=60",
            ])
            .args(["-c", "shared_buffers=16MB", "-c"])
            .arg(format!("port={port}"))
            .arg("-c")
            .arg(format!("unix_socket_directories={}", home.path().display()))
            .stderr(Stdio::piped())
            .spawn()
            .expect("postgres starts");
        let mut log = BufReader::new(child.stderr.take().expect("piped"))
            .lines()
            .map_while(Result::ok);
        let mut said = Vec::new();
        let is_ready = log
            .by_ref()
            .inspect(|line| said.push(line.clone()))
            .any(|line| line.contains("ready to accept"));
        assert!(is_ready, "postgres did not start: {said:#?}");
        // A full pipe would stop the server.
        std::thread::spawn(move || log.for_each(drop));
        Self { child, port, home }
    }

    pub(super) fn url(&self, database: &str) -> String {
        self.url_as("postgres", PASSWORD, database)
    }

    pub(super) const fn port(&self) -> u16 {
        self.port
    }

    /// Where its socket is.
    pub(super) fn folder(&self) -> String {
        self.home.path().display().to_string()
    }

    /// What pg_dump says of a database's definitions.
    pub(super) fn dump(&self, database: &str, options: &[&str]) -> String {
        let dumped = Command::new(bin_dir().join("pg_dump"))
            .arg("--schema-only")
            .args(options)
            .arg(self.url(database))
            .output()
            .expect("pg_dump starts");
        let errors = String::from_utf8_lossy(&dumped.stderr);
        assert!(dumped.status.success(), "{errors}");
        String::from_utf8_lossy(&dumped.stdout).into_owned()
    }

    /// Puts all that one database holds into another one, as from a backup of pg_dump.
    pub(super) fn restore(&self, from: &str, into: &str) {
        let file = self.home.path().join(format!("{from}.sql"));
        run(Command::new(bin_dir().join("pg_dump"))
            .arg("--file")
            .arg(&file)
            .arg(self.url(from)));
        run(Command::new(bin_dir().join("psql"))
            .args([
                "--no-psqlrc",
                "--quiet",
                "--set",
                "ON_ERROR_STOP=1",
                "--output",
                "/dev/null",
            ])
            .arg("--file")
            .arg(&file)
            .arg(self.url(into)));
    }

    pub(super) fn url_as(&self, user: &str, password: &str, database: &str) -> String {
        format!(
            "postgres://{user}:{password}@127.0.0.1:{}/{database}",
            self.port
        )
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // At once and without a checkpoint: nobody will look at the data again.
        run(Command::new("kill")
            .arg("-QUIT")
            .arg(self.child.id().to_string()));
        self.child.wait().ok();
    }
}

/// A fresh data folder to copy, made once: to make one takes longer than most tests.
fn template() -> PathBuf {
    let version = bin_dir()
        .components()
        .rev()
        .nth(1)
        .map(|part| part.as_os_str().to_owned())
        .expect("a version");
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../target/tmp");
    let template = folder.join(format!("postgres-{}", version.display()));
    if template.exists() {
        return template;
    }
    let home = tempfile::Builder::new()
        .prefix("highwater-pg-")
        .tempdir()
        .expect("a temporary folder");
    let password_file = home.path().join("password");
    std::fs::write(&password_file, PASSWORD).expect("written");
    if is_root() {
        run(Command::new("chown")
            .arg("-R")
            .arg("postgres")
            .arg(home.path()));
    }
    run(as_postgres("initdb", home.path())
        .args([
            "--no-sync",
            "--username=postgres",
            "--auth=scram-sha-256",
            "--encoding=UTF8",
            "--locale=C",
        ])
        .arg(format!("--pwfile={}", password_file.display()))
        .arg(home.path().join("data")));
    std::fs::create_dir_all(&folder).expect("a folder for templates");
    let copy = tempfile::Builder::new()
        .prefix("postgres-")
        .tempdir_in(&folder)
        .expect("a folder for the copy");
    run(Command::new("cp")
        .arg("-a")
        .arg(home.path().join("data"))
        .arg(copy.path()));
    // Of tests that make one at once, the first gives it its name; the copies of the others go.
    std::fs::rename(copy.path().join("data"), &template).ok();
    template
}

/// A program of PostgreSQL, as a user that it agrees to run as, ended with the thread that started
/// it.
fn as_postgres(program: &str, home: &Path) -> Command {
    let program = bin_dir().join(program);
    let mut command = Command::new("setpriv");
    command.args(["--pdeathsig", "QUIT"]);
    if is_root() {
        command.args([
            "--reuid",
            "postgres",
            "--regid",
            "postgres",
            "--clear-groups",
        ]);
    }
    command
        .arg(program)
        .current_dir(home)
        .stdin(Stdio::null())
        .stdout(Stdio::null());
    command
}

fn bin_dir() -> PathBuf {
    let versions = std::fs::read_dir("/usr/lib/postgresql").expect("PostgreSQL is installed");
    let newest = versions.filter_map(Result::ok).max_by_key(|entry| {
        entry
            .file_name()
            .to_str()
            .and_then(|version| version.parse::<u32>().ok())
            .unwrap_or(0)
    });
    newest.expect("a version of it").path().join("bin")
}

pub(super) fn is_root() -> bool {
    let id = Command::new("id").arg("-u").output().expect("id runs");
    id.stdout.trim_ascii() == b"0"
}

pub(super) fn run(command: &mut Command) {
    let output = command.output().expect("it starts");
    assert!(
        output.status.success(),
        "{command:?}: {}",
        String::from_utf8_lossy(&output.stderr)
    );
}

pub(super) fn free_port() -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
    listener.local_addr().expect("bound").port()
}
