//! What the system knows of a process: memory, time, context switches.

use std::{collections::BTreeMap, fs, path::Path};

/// Figures of one process at one moment, all its threads together.
#[derive(Debug, Clone, Default)]
pub struct Usage {
    /// Memory in use now, in KiB.
    pub rss_kib: u64,
    /// The most that it was, in KiB.
    pub peak_kib: u64,
    /// Processor time in ticks of 10 ms.
    pub ticks: u64,
    /// How often each thread was put to work.
    threads: BTreeMap<String, u64>,
}

impl Usage {
    /// How often threads have been put to work since an earlier moment. Those that have ended since are not counted.
    pub fn switches_since(&self, earlier: &Self) -> u64 {
        self.threads.iter().map(|(thread, count)| count.saturating_sub(earlier.threads.get(thread).copied().unwrap_or(0))).sum()
    }
}

/// Reads them; `None` when the process has gone or this is not Linux.
pub fn usage(pid: u32) -> Option<Usage> {
    let root = format!("/proc/{pid}");
    let root = Path::new(&root);
    let status = fs::read_to_string(root.join("status")).ok()?;
    let stat = fs::read_to_string(root.join("stat")).ok()?;
    // The name in parentheses may hold spaces; utime and stime are the 12th and 13th field after it.
    let fields: Vec<&str> = stat.rsplit_once(')')?.1.split_whitespace().collect();
    let ticks = fields.get(11)?.parse::<u64>().ok()? + fields.get(12)?.parse::<u64>().ok()?;
    let mut threads = BTreeMap::new();
    for task in fs::read_dir(root.join("task")).ok()?.flatten() {
        // A thread may end between the listing and the reading.
        let Ok(status) = fs::read_to_string(task.path().join("status")) else { continue };
        let switches = field(&status, "voluntary_ctxt_switches:").unwrap_or(0) + field(&status, "nonvoluntary_ctxt_switches:").unwrap_or(0);
        threads.insert(task.file_name().to_string_lossy().into_owned(), switches);
    }
    Some(Usage { rss_kib: field(&status, "VmRSS:")?, peak_kib: field(&status, "VmHWM:")?, ticks, threads })
}

fn field(status: &str, name: &str) -> Option<u64> {
    status.lines().find_map(|line| line.strip_prefix(name))?.split_whitespace().next()?.parse().ok()
}
