//! What `pg_dump` says of a server's databases.

use anyhow::{Context as _, Result, ensure};

use crate::Postgres;

/// What `pg_dump` says of a database's definitions: its statements, in order and without the
/// remarks between them.
///
/// # Errors
/// It does not run, or refuses.
pub async fn dump_definitions(server: &Postgres, database: &str) -> Result<Vec<String>> {
    let dumped = tokio::process::Command::new(server.programs.join("pg_dump"))
        .args([
            "--schema-only",
            "--no-owner",
            "--exclude-schema=highwater",
            "--exclude-table=*._highwater_*",
        ])
        .args(["--dbname", &server.url(database)])
        .output()
        .await
        .context("run pg_dump")?;
    ensure!(
        dumped.status.success(),
        "pg_dump: {}",
        String::from_utf8_lossy(&dumped.stderr)
    );
    let text = String::from_utf8(dumped.stdout)?;
    let is_said = |line: &&str| !line.starts_with("--") && !line.starts_with('\\');
    let text: Vec<&str> = text.lines().filter(is_said).collect();
    let statements = text.join("\n");
    let statements = statements.split(";\n").map(|one| one.trim().to_owned());
    Ok(statements.filter(|one| !one.is_empty()).collect())
}
