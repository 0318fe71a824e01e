//! Processes as sessions of a file: known by their id and their start, since ids come back.

use std::path::Path;
use std::sync::OnceLock;

/// A process on this host.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Process {
    /// The process id.
    pub(super) pid: i64,
    /// The boot of the host and the ticks since then at which the process started.
    pub(super) start: String,
}

/// The byte of a write-ahead log's index that its writer locks.
const WAL_WRITE_LOCK_BYTE: &str = "120";

impl Process {
    /// This process.
    pub(super) fn own() -> &'static Self {
        static OWN: OnceLock<Process> = OnceLock::new();
        OWN.get_or_init(|| {
            let pid = i64::from(std::process::id());
            Process {
                pid,
                start: start_of(pid).unwrap_or_else(|| "unknown".to_owned()),
            }
        })
    }

    /// True while exactly this process runs on this host.
    pub(super) fn lives(&self) -> bool {
        start_of(self.pid).is_some_and(|start| start == self.start)
    }

    /// Ends the process. Never this one, and never one that merely has its id.
    pub(super) async fn end(&self) -> bool {
        if self.pid <= 1 || *self == *Self::own() || !self.lives() {
            return false;
        }
        let pid = self.pid.to_string();
        tokio::process::Command::new("kill")
            .args(["-KILL", &pid])
            .status()
            .await
            .is_ok_and(|status| status.success())
    }
}

/// The process that holds the write lock of the database at `path`, when it is in WAL mode and the
/// host tells.
pub(super) async fn writer_of(path: &Path) -> Option<i64> {
    use std::os::unix::fs::MetadataExt;

    let mut index = path.as_os_str().to_owned();
    index.push("-shm");
    let inode = tokio::fs::metadata(&index).await.ok()?.ino();
    let locks = tokio::fs::read_to_string("/proc/locks").await.ok()?;
    locks.lines().find_map(|line| writer_in_line(line, inode))
}

/// The process of a line such as `1: POSIX  ADVISORY  WRITE 4711 08:01:1234 120 120`, if it is the
/// writer of `inode`.
fn writer_in_line(line: &str, inode: u64) -> Option<i64> {
    let fields: Vec<&str> = line.split_whitespace().collect();
    let [_, _, _, "WRITE", pid, file, first, last] = fields[..] else {
        return None;
    };
    let is_file = file
        .rsplit(':')
        .next()
        .and_then(|ino| ino.parse::<u64>().ok())
        == Some(inode);
    (is_file && first == WAL_WRITE_LOCK_BYTE && last == WAL_WRITE_LOCK_BYTE)
        .then(|| pid.parse().ok())
        .flatten()
}

fn start_of(pid: i64) -> Option<String> {
    let boot = std::fs::read_to_string("/proc/sys/kernel/random/boot_id").ok()?;
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    Some(format!("{}/{}", boot.trim(), start_ticks(&stat)?))
}

/// The 22nd field; the second may hold spaces and brackets, so counting begins behind its last
/// bracket.
fn start_ticks(stat: &str) -> Option<&str> {
    stat.rsplit_once(')')?.1.split_whitespace().nth(19)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_is_known_by_its_start_and_not_by_its_id_alone() {
        let own = Process::own();
        assert!(own.lives());
        assert!(
            !Process {
                pid: own.pid,
                start: "another/1".to_owned()
            }
            .lives()
        );
    }

    #[test]
    fn a_strange_name_does_not_shift_the_start() {
        let fields: Vec<String> = (3..=30).map(|field| field.to_string()).collect();
        assert_eq!(
            start_ticks(&format!("7 (a ) b) {}", fields.join(" "))),
            Some("22")
        );
    }

    #[test]
    fn only_the_holder_of_the_write_lock_is_the_writer() {
        assert_eq!(
            writer_in_line("1: POSIX  ADVISORY  WRITE 4711 08:01:1234 120 120", 1234),
            Some(4711)
        );
        assert_eq!(
            writer_in_line("1: POSIX  ADVISORY  READ 4711 08:01:1234 123 123", 1234),
            None
        );
        assert_eq!(
            writer_in_line("1: POSIX  ADVISORY  WRITE 4711 08:01:1235 120 120", 1234),
            None
        );
    }
}
