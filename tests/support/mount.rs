//! A file system of a test's own, whose power can be cut: an ext4 on a loop device, and `FS_IOC_SHUTDOWN` without flushing its
//! journal. From then on not one block reaches the device. A copy of a mounted file system's image would show less: its blocks
//! are of different times, as no disk's ever are.
//!
//! Needs root, loop devices, mkfs.ext4 and python3. The system's own writing back is kept off by `commit=` and by how short a test is,
//! so what was not synced is mostly not there after the cut.

use std::fs::{self, File};
use std::io::{Read, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

/// `FS_IOC_SHUTDOWN` with `EXT4_GOING_FLAGS_NOLOGFLUSH` (`fs/ext4/ext4.h` of Linux).
const SHUT_DOWN: &str = "\
import fcntl, os, struct, sys
point = os.open(sys.argv[1], os.O_RDONLY)
print('ready', flush=True)
sys.stdin.readline()
fcntl.ioctl(point, 0x8004587d, struct.pack('I', 2))";

/// An ext4 in a file, mounted.
#[derive(Debug)]
pub struct Mount {
    /// Where.
    pub point: PathBuf,
    image: PathBuf,
}

/// Cuts a mounted file system's power when told to: its process runs already, so that nothing happens between the decision and the cut.
#[derive(Debug)]
pub struct PowerSwitch(Child);

impl Mount {
    /// Makes a file system of so many bytes in `directory` and mounts it there; `None` where the machine allows none, which has been
    /// said, or is an error if `FOREBAY_REQUIRE_LOOP` is set.
    #[track_caller]
    pub fn new_or_say(directory: &Path, name: &str, bytes: u64) -> Option<Mount> {
        let image = directory.join(format!("{name}.image"));
        match Mount::new(image, directory.join(name), bytes) {
            Ok(mount) => Some(mount),
            Err(why) if std::env::var_os("FOREBAY_REQUIRE_LOOP").is_some() => panic!("{why}"),
            Err(why) => {
                // Past libtest's capture, so that a green run shows what it did not do.
                let _ = writeln!(std::io::stderr(), "skipped: no file system of its own here: {why}");
                None
            }
        }
    }

    fn new(image: PathBuf, point: PathBuf, bytes: u64) -> Result<Mount, String> {
        let file = File::create(&image).map_err(|error| error.to_string())?;
        file.set_len(bytes).map_err(|error| error.to_string())?;
        run("mkfs.ext4", &["-q", "-F", path(&image)])?;
        fs::create_dir_all(&point).map_err(|error| error.to_string())?;
        mount(&image, &point)?;
        Ok(Mount { point, image })
    }

    /// Ready to cut its power.
    pub fn power_switch(&self) -> PowerSwitch {
        let mut python = Command::new("python3")
            .args(["-c", SHUT_DOWN, path(&self.point)])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("python3 is there");
        let mut ready = [0; 6];
        python.stdout.take().expect("it is piped").read_exact(&mut ready).expect("it gets ready");
        PowerSwitch(python)
    }

    /// After a cut: gone and mounted again, at the same place, with what the device holds. Nobody may use it meanwhile.
    pub fn mount_again(&self) {
        run("umount", &[path(&self.point)]).expect("nobody uses it");
        run("mount", &["-o", "loop,commit=300", path(&self.image), path(&self.point)])
            .expect("its journal is replayed");
    }
}

impl Drop for Mount {
    fn drop(&mut self) {
        // Where a test has failed somebody may still hold files.
        let unmounted = run("umount", &[path(&self.point)]).or_else(|_| run("umount", &["-l", path(&self.point)]));
        if let Err(error) = unmounted {
            eprintln!("{error}");
        }
    }
}

impl PowerSwitch {
    /// Cuts the power. When this returns, it is cut.
    pub fn cut(mut self) {
        self.0.stdin.take().expect("it is piped").write_all(b"\n").expect("it waits");
        assert!(self.0.wait().expect("it ends").success(), "the file system cannot be shut down");
    }
}

fn mount(image: &Path, point: &Path) -> Result<(), String> {
    run("mount", &["-o", "loop,commit=300", path(image), path(point)])
}

fn path(path: &Path) -> &str {
    path.to_str().expect("the build's own directory is UTF-8")
}

fn run(program: &str, arguments: &[&str]) -> Result<(), String> {
    let output = Command::new(program).args(arguments).output().map_err(|error| format!("{program}: {error}"))?;
    if output.status.success() {
        Ok(())
    } else {
        Err(format!("{program}: {}", String::from_utf8_lossy(&output.stderr)))
    }
}
