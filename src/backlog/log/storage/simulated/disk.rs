//! What a simulated disk holds, what of it is durable, and what a power loss leaves.

use std::collections::BTreeMap;
use std::io;
use std::ops::Range;

use nix::errno::Errno;

use super::Fault;
use crate::backlog::log::storage::Listed;

/// Disks write whole sectors; which of them, when the power goes, is chance.
const SECTOR_BYTES: usize = 512;

/// A disk.
#[derive(Debug)]
pub(super) struct Disk {
    pub(super) random: fastrand::Rng,
    pub(super) fault: Option<Fault>,
    pub(super) capacity: u64,
    pub(super) read_only: bool,
    pub(super) locked: bool,
    /// Grows with each kill and power loss, so that what was open before is dead.
    pub(super) boot: u64,
    contents: BTreeMap<u64, Content>,
    names: BTreeMap<String, u64>,
    durable_names: BTreeMap<String, u64>,
    /// What was done to names since their directory was synced, in order.
    name_changes: Vec<NameChange>,
    next_inode: u64,
}

/// A file's bytes.
#[derive(Debug, Default)]
struct Content {
    current: Vec<u8>,
    durable: Vec<u8>,
    changes: Vec<Change>,
    /// Cannot be read.
    spoiled: Option<Range<u64>>,
}

/// A change to a file that is not durable.
#[derive(Clone, Debug)]
pub(super) enum Change {
    Write(u64, Vec<u8>),
    SetLen(u64),
}

#[derive(Clone, Debug)]
enum NameChange {
    Link(String, u64),
    Rename(String, String),
    Remove(String),
}

impl Disk {
    pub(super) fn new(seed: u64) -> Self {
        Disk {
            random: fastrand::Rng::with_seed(seed),
            fault: None,
            capacity: u64::MAX,
            read_only: false,
            locked: false,
            boot: 0,
            contents: BTreeMap::new(),
            names: BTreeMap::new(),
            durable_names: BTreeMap::new(),
            name_changes: Vec::new(),
            next_inode: 0,
        }
    }

    /// Counts a call, and fails it if its time has come.
    pub(super) fn call(&mut self) -> io::Result<()> {
        match &mut self.fault {
            Some(fault) if fault.after > 0 => fault.after -= 1,
            Some(fault) if fault.times > 0 => {
                fault.times -= 1;
                return Err(fault.errno.into());
            }
            _ => {}
        }
        Ok(())
    }

    pub(super) fn put_files(&mut self, files: &BTreeMap<String, Vec<u8>>) {
        for (name, bytes) in files {
            self.contents.insert(
                self.next_inode,
                Content { current: bytes.clone(), durable: bytes.clone(), changes: Vec::new(), spoiled: None },
            );
            self.names.insert(name.clone(), self.next_inode);
            self.next_inode += 1;
        }
        self.durable_names = self.names.clone();
    }

    pub(super) fn files(&self) -> BTreeMap<String, Vec<u8>> {
        let bytes = |inode| self.contents.get(inode).map(|content| content.current.clone()).unwrap_or_default();
        self.names.iter().map(|(name, inode)| (name.clone(), bytes(inode))).collect()
    }

    pub(super) fn kill(&mut self) {
        self.boot += 1;
        self.locked = false;
        self.fault = None;
    }

    pub(super) fn lose_power(&mut self) {
        self.kill();
        let kept = self.random.usize(..=self.name_changes.len());
        for change in self.name_changes.drain(..).take(kept) {
            change.apply(&mut self.durable_names);
        }
        self.names = self.durable_names.clone();
        let names = &self.names;
        self.contents.retain(|inode, _| names.values().any(|named| named == inode));
        for content in self.contents.values_mut() {
            let mut image = std::mem::take(&mut content.durable);
            for change in content.changes.drain(..) {
                survive(&mut image, &change, &mut self.random);
            }
            content.current = image.clone();
            content.durable = image;
        }
    }

    pub(super) fn list(&self, directory: &str) -> Vec<Listed> {
        let inside = self.names.iter().filter(|(name, _)| split(name).0 == directory);
        inside.map(|(name, inode)| Listed { name: split(name).1.to_owned(), len: self.len(*inode) }).collect()
    }

    pub(super) fn create(&mut self, name: &str) -> io::Result<u64> {
        self.writable()?;
        if self.names.contains_key(name) {
            return Err(Errno::EEXIST.into());
        }
        let inode = self.next_inode;
        self.next_inode += 1;
        self.contents.insert(inode, Content::default());
        self.rename_by(NameChange::Link(name.to_owned(), inode));
        Ok(inode)
    }

    pub(super) fn inode(&self, name: &str) -> io::Result<u64> {
        self.names.get(name).copied().ok_or_else(|| Errno::ENOENT.into())
    }

    pub(super) fn rename(&mut self, from: &str, to: &str) -> io::Result<()> {
        self.writable()?;
        self.inode(from)?;
        self.rename_by(NameChange::Rename(from.to_owned(), to.to_owned()));
        Ok(())
    }

    pub(super) fn remove(&mut self, name: &str) -> io::Result<()> {
        self.writable()?;
        self.inode(name)?;
        self.rename_by(NameChange::Remove(name.to_owned()));
        Ok(())
    }

    pub(super) fn sync_directory(&mut self, directory: &str) {
        let changes = std::mem::take(&mut self.name_changes);
        for change in changes {
            if split(change.name()).0 == directory {
                change.apply(&mut self.durable_names);
            } else {
                self.name_changes.push(change);
            }
        }
    }

    pub(super) fn used_bytes(&self) -> u64 {
        self.names.values().map(|inode| self.len(*inode)).sum()
    }

    pub(super) fn len(&self, inode: u64) -> u64 {
        self.contents.get(&inode).map_or(0, |content| content.current.len() as u64)
    }

    pub(super) fn spoil(&mut self, name: &str, range: Range<u64>) {
        let content = self.names.get(name).and_then(|inode| self.contents.get_mut(inode));
        content.into_iter().for_each(|content| content.spoiled = Some(range.clone()));
    }

    pub(super) fn mend(&mut self) {
        self.contents.values_mut().for_each(|content| content.spoiled = None);
    }

    pub(super) fn read(&self, inode: u64, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
        let spoiled = self.contents.get(&inode).and_then(|content| content.spoiled.clone());
        if spoiled.is_some_and(|range| range.start < offset + buffer.len() as u64 && offset < range.end) {
            return Err(Errno::EIO.into());
        }
        let content = self.contents.get(&inode).map(|content| content.current.as_slice()).unwrap_or_default();
        let from = content.get(offset as usize..).unwrap_or_default();
        let len = from.len().min(buffer.len());
        buffer[..len].copy_from_slice(&from[..len]);
        Ok(len)
    }

    pub(super) fn change(&mut self, inode: u64, change: Change) -> io::Result<()> {
        self.writable()?;
        let before = self.len(inode);
        let after = match &change {
            Change::Write(offset, bytes) => before.max(offset + bytes.len() as u64),
            Change::SetLen(len) => *len,
        };
        if after > before && self.used_bytes() + (after - before) > self.capacity {
            return Err(Errno::ENOSPC.into());
        }
        if let Some(content) = self.contents.get_mut(&inode) {
            if let Change::Write(0, _) = change {
                content.spoiled = None;
            }
            apply(&mut content.current, &change);
            content.changes.push(change);
        }
        Ok(())
    }

    pub(super) fn sync(&mut self, inode: u64) {
        if let Some(content) = self.contents.get_mut(&inode) {
            for change in content.changes.drain(..) {
                apply(&mut content.durable, &change);
            }
        }
    }

    /// After a sync that failed the system takes what it could not write for clean.
    pub(super) fn forget_unsynced(&mut self, inode: u64) {
        if let Some(content) = self.contents.get_mut(&inode) {
            for change in content.changes.drain(..) {
                survive(&mut content.durable, &change, &mut self.random);
            }
        }
    }

    fn writable(&self) -> io::Result<()> {
        if self.read_only { Err(Errno::EROFS.into()) } else { Ok(()) }
    }

    fn rename_by(&mut self, change: NameChange) {
        change.apply(&mut self.names);
        self.name_changes.push(change);
    }
}

impl NameChange {
    fn name(&self) -> &str {
        match self {
            NameChange::Link(name, _) | NameChange::Rename(name, _) | NameChange::Remove(name) => name,
        }
    }

    fn apply(&self, names: &mut BTreeMap<String, u64>) {
        match self {
            NameChange::Link(name, inode) => _ = names.insert(name.clone(), *inode),
            NameChange::Remove(name) => _ = names.remove(name),
            NameChange::Rename(from, to) => {
                if let Some(inode) = names.remove(from) {
                    names.insert(to.clone(), inode);
                }
            }
        }
    }
}

fn apply(bytes: &mut Vec<u8>, change: &Change) {
    match change {
        Change::SetLen(len) => bytes.resize(*len as usize, 0),
        Change::Write(offset, written) => {
            let at = *offset as usize;
            bytes.resize(bytes.len().max(at + written.len()), 0);
            bytes[at..at + written.len()].copy_from_slice(written);
        }
    }
}

/// What a power loss leaves of a change: all, nothing, a beginning that ends at any byte, or some of its sectors.
fn survive(bytes: &mut Vec<u8>, change: &Change, random: &mut fastrand::Rng) {
    let Change::Write(offset, written) = change else {
        if random.bool() {
            apply(bytes, change);
        }
        return;
    };
    match random.u8(..4) {
        0 => {}
        1 => apply(bytes, change),
        2 => apply(bytes, &Change::Write(*offset, written[..random.usize(..=written.len())].to_vec())),
        _ => {
            for (at, sector) in written.chunks(SECTOR_BYTES).enumerate() {
                if random.bool() {
                    apply(bytes, &Change::Write(offset + (at * SECTOR_BYTES) as u64, sector.to_vec()));
                }
            }
        }
    }
}

fn split(name: &str) -> (&str, &str) {
    name.rsplit_once('/').unwrap_or(("", name))
}
