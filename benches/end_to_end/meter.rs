//! What a process has cost: its CPU clock and what `/proc` says of it.

use std::fs;
use std::thread;
use std::time::Duration;

use anyhow::{Context, Result, anyhow};
use nix::errno::Errno;
use nix::time::{ClockId, clock_getcpuclockid};
use nix::unistd::Pid;

/// A process that is measured. Reading costs it nothing.
pub struct Meter {
    pid: u32,
    clock: ClockId,
}

/// What it has cost up to a moment.
#[derive(Clone, Copy, Debug)]
pub struct Reading {
    /// User and system time of all its threads, in the kernel's own nanoseconds.
    pub cpu: Duration,
    /// User time, and system time, in the kernel's clock ticks: coarse, and only good for their ratio.
    pub ticks: [u64; 2],
    /// How often a thread of it had nothing more to do: each is followed by a wakeup.
    pub voluntary_switches: u64,
}

impl Meter {
    /// Of the process with that number.
    pub fn new(pid: u32) -> Result<Meter> {
        let clock = clock_getcpuclockid(Pid::from_raw(pid.cast_signed())).context("the daemon has no CPU clock")?;
        Ok(Meter { pid, clock })
    }

    pub fn read(&self) -> Result<Reading> {
        Ok(Reading {
            cpu: Duration::from(self.clock.now()?),
            ticks: self.ticks()?,
            voluntary_switches: self.voluntary_switches()?,
        })
    }

    fn ticks(&self) -> Result<[u64; 2]> {
        let stat = fs::read_to_string(format!("/proc/{}/stat", self.pid))?;
        // The name in parentheses may hold anything. Behind it utime and stime are the 12th and 13th field, see proc(5).
        let fields = stat.rsplit(") ").next().unwrap_or_default().split(' ').skip(11);
        let ticks: Vec<u64> = fields.take(2).map(str::parse).collect::<Result<_, _>>()?;
        ticks.try_into().map_err(|_| anyhow!("no CPU times in /proc"))
    }

    /// Summed over its threads.
    fn voluntary_switches(&self) -> Result<u64> {
        let mut sum = 0;
        for task in fs::read_dir(format!("/proc/{}/task", self.pid))? {
            let status = match fs::read_to_string(task?.path().join("status")) {
                Ok(status) => status,
                // A thread that has ended since it was listed: Tokio ends those that wait for names and files.
                Err(error)
                    if matches!(
                        Errno::from_raw(error.raw_os_error().unwrap_or_default()),
                        Errno::ENOENT | Errno::ESRCH
                    ) =>
                {
                    continue;
                }
                Err(error) => return Err(error.into()),
            };
            sum += field(&status, "voluntary_ctxt_switches")?;
        }
        Ok(sum)
    }

    /// Resident memory now, in bytes.
    pub fn resident(&self) -> Result<u64> {
        Ok(field(&self.status()?, "VmRSS")? * 1024)
    }

    /// The most that was ever resident, in bytes.
    pub fn peak_resident(&self) -> Result<u64> {
        Ok(field(&self.status()?, "VmHWM")? * 1024)
    }

    fn status(&self) -> Result<String> {
        Ok(fs::read_to_string(format!("/proc/{}/status", self.pid))?)
    }
}

/// What the figures are of, in words; a load above 0 says that they are worth little.
pub fn machine() -> Result<String> {
    let cores = thread::available_parallelism()?;
    let cpu = fs::read_to_string("/proc/cpuinfo")?;
    let model = cpu.lines().find_map(|line| line.strip_prefix("model name")?.split_once(": "));
    let kernel = fs::read_to_string("/proc/sys/kernel/osrelease")?;
    let load = fs::read_to_string("/proc/loadavg")?;
    Ok(format!(
        "{cores} cores ({}), Linux {}, load average over the last minute: {}",
        model.map_or("of an unknown model", |(_, model)| model),
        kernel.split(['-', '\n']).next().unwrap_or_default(),
        load.split(' ').next().unwrap_or_default()
    ))
}

/// The number of a line `name: number …`.
fn field(status: &str, name: &str) -> Result<u64> {
    let line = status.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
    let number = line.and_then(|rest| rest.split_whitespace().next()).with_context(|| format!("no {name} in /proc"))?;
    Ok(number.parse()?)
}
