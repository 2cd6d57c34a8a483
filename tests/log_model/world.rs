//! A log on a simulated disk beside its model, and what can happen to both.

use std::collections::VecDeque;

use nix::errno::Errno;

use forebay::backlog::log::append::Ticket;
use forebay::backlog::log::engine::Log;
use forebay::backlog::log::entry::{Acknowledged, Entry, IndexRange, Origin, Records, Sent, tag_origins};
use forebay::backlog::log::error::LogError;
use forebay::backlog::log::options::Options;
use forebay::backlog::log::storage::simulated::{Fault, SimulatedStorage};
use forebay::backlog::log::sync::SyncOutcome;

use crate::model::{Fate, Model};
use crate::tally::Tally;

pub const PARTITIONS: u32 = 5;
const ERRNOS: &[Errno] = &[Errno::EIO, Errno::ENOSPC, Errno::EDQUOT, Errno::EACCES, Errno::EROFS, Errno::ENOENT];

pub struct World {
    pub random: fastrand::Rng,
    pub tally: Tally,
    pub storage: SimulatedStorage,
    pub options: Options,
    pub log: Option<Log<SimulatedStorage>>,
    /// The model as it was after each frame that may not be durable; the first is durable.
    pub past: VecDeque<(Ticket, Model)>,
    pub model: Model,
    pub outcome: Option<SyncOutcome>,
    next_byte: u64,
    verbose: bool,
}

impl World {
    pub fn new(seed: u64, verbose: bool) -> World {
        let mut random = fastrand::Rng::with_seed(seed);
        let segment_bytes = [8 << 10, 16 << 10, 64 << 10][random.usize(..3)];
        let options = Options {
            segment_bytes,
            limit_bytes: segment_bytes * random.u64(4..12),
            free_space_floor_bytes: if random.bool() { 0 } else { 1 << 12 },
            write_bytes: random.usize(1..4000),
            unsynced_bytes_max: random.usize(500..10_000),
            index_bytes_max: random.usize(..4000),
            runs_max: random.usize(4..200),
            origins_max: 3,
        };
        let storage = SimulatedStorage::new(random.u64(..));
        let mut world = World {
            random,
            tally: Tally::default(),
            storage,
            options,
            log: None,
            past: VecDeque::new(),
            model: Model::default(),
            outcome: None,
            next_byte: 0,
            verbose,
        };
        world.open();
        world.heal();
        for number in 0..PARTITIONS {
            let defined = world.log().define(format!("partition {number}").as_bytes());
            assert_eq!(defined.expect("nothing is in the way yet"), number);
            world.model.partitions.entry(number).or_default();
        }
        world.log().sync().expect("nothing is in the way yet");
        world.past = [(world.log().synced(), world.model.clone())].into();
        world
    }

    pub fn step(&mut self) {
        match self.random.u8(..100) {
            0..40 => self.append(),
            40..55 => self.settle(),
            55..68 => self.sync(),
            68..73 => self.begin_or_finish_sync(),
            73..76 => self.ignoring(|log| log.write()),
            76..79 => self.ignoring(|log| log.mark()),
            79..84 => self.read_some(),
            84..87 => self.fault(),
            87 => self.spoil(),
            88..90 => self.storage.fail(None),
            90..92 => self.fill_disk(),
            92..94 => self.storage.set_capacity(u64::MAX),
            94..96 => self.close(),
            96..97 => self.kill(),
            97 => self.define_or_retire(),
            _ => self.lose_power(),
        }
        self.forget_what_is_durable();
    }

    /// Everything heals, everything is delivered, and the log is empty and usable.
    pub fn end(&mut self) {
        self.heal();
        self.finish_sync();
        self.read_all();
        for number in self.model.partitions.keys().copied().collect::<Vec<_>>() {
            self.acknowledge_all(number);
        }
        self.append_run(0).expect("there is room when everything is settled");
        self.log().sync().expect("nothing is in the way");
        self.acknowledge_all(0);
        self.log().sync().expect("nothing is in the way");
        self.forget_what_is_durable();
        let used = self.log().used_bytes();
        // The newest, and one that it may just have left.
        assert!(used <= 2 * self.options.segment_bytes + (1 << 14), "{used} bytes are still used");
        self.lose_power();
        self.read_all();
        let ledger = &self.log().state().ledger;
        assert_eq!((ledger.held(), ledger.accepted > 0), (0, true));
    }

    pub fn log(&mut self) -> &mut Log<SimulatedStorage> {
        self.log.as_mut().expect("it is open between steps")
    }

    pub fn say(&self, what: impl std::fmt::Display) {
        if self.verbose {
            println!("{what}");
        }
    }

    /// Notes how a call ended that may have appended a frame.
    fn took(&mut self, what: &str, result: Result<Ticket, LogError>, apply: impl FnOnce(&mut Model)) -> bool {
        self.say(format_args!("{what}: {result:?}"));
        match result {
            Ok(ticket) => {
                self.tally.frames += 1;
                apply(&mut self.model);
                self.past.push_back((ticket, self.model.clone()));
                true
            }
            Err(error) => {
                self.tally.errors += 1;
                self.tally.full += u64::from(matches!(error, LogError::Full { .. }));
                assert!(!matches!(error, LogError::Refused(_)), "{error}");
                false
            }
        }
    }

    fn append_run(&mut self, number: u32) -> Result<(), LogError> {
        let first = self.model.partitions[&number].next();
        let count = self.random.u32(1..20);
        let len = if self.random.u8(..10) == 0 { self.random.usize(..2000) } else { self.random.usize(..200) };
        let data: Vec<u8> = (0..len).map(|at| (self.next_byte as usize + at) as u8).collect();
        self.next_byte += 7;
        let origin = self.random.u8(..3);
        let (name, up_to) = (vec![origin], self.random.i64(..1000));
        let tags = tag_origins(&[Origin { name: &name, up_to }]);
        let records = Records {
            partition: number,
            first,
            count,
            base_timestamp: 5,
            max_timestamp: 6,
            stored_at: 7,
            codec: 0,
            tags: &tags,
            data: &data,
        };
        let epoch = self.model.partitions[&number].epoch;
        let sent = self.random.bool().then(|| sent(first, first + u64::from(count) - 1, epoch, first as i32));
        let mut entries = vec![Entry::Records(records)];
        entries.extend(sent.map(|sent| Entry::Sent { partition: number, sent }));
        let result = self.log().append(&entries);
        let failed = result.as_ref().err().map(ToString::to_string);
        self.took(&format!("append {count} to {number}"), result, |model| {
            let partition = model.partitions.get_mut(&number).expect("it is known");
            partition.store(count, data);
            sent.into_iter().for_each(|sent| partition.send(sent));
            let known = model.origins.entry(name).or_insert(up_to);
            *known = up_to.max(*known);
        });
        failed.map_or(Ok(()), |_| Err(LogError::Busy))
    }

    /// One more partition, which comes and goes.
    fn define_or_retire(&mut self) {
        let mayfly = self.model.partitions.keys().next_back().copied().filter(|number| *number >= PARTITIONS);
        match mayfly {
            None => {
                let defined = self.log().define(b"mayfly");
                let ticket = self.log().appended();
                if let Ok(number) = defined {
                    let added = move |model: &mut Model| _ = model.partitions.entry(number).or_default();
                    self.took(&format!("define {number}"), Ok(ticket), added);
                }
            }
            Some(number) => {
                let result = self.log().retire(number, 9);
                self.tally.retired += u64::from(result.is_ok());
                self.took(&format!("retire {number}"), result, |model| model.retire(number, 9));
            }
        }
    }

    /// Any partition.
    fn any_partition(&mut self) -> u32 {
        let at = self.random.usize(..self.model.partitions.len());
        self.model.partitions.keys().nth(at).copied().expect("there are as many")
    }

    fn append(&mut self) {
        let number = self.any_partition();
        let _ = self.append_run(number);
    }

    fn settle(&mut self) {
        let number = self.any_partition();
        let (settled, next) = (self.model.partitions[&number].settled, self.model.partitions[&number].next());
        // Partition 4 stands still for most of the time.
        if settled == next || (number == 4 && self.random.u8(..10) > 0) {
            return;
        }
        let first = self.random.u64(settled..next);
        let range = IndexRange { first, last: self.random.u64(first..next) };
        match self.random.u8(..6) {
            0 => {
                let entry = Entry::Dropped { partition: number, range, reason: 7 };
                let result = self.log().append(&[entry]);
                self.took("drop", result, |model| settle(model, number, range, Fate::Dropped(7)));
            }
            1 => {
                let entry = Entry::Dead { partition: number, range, reason: 3 };
                let result = self.log().append(&[entry]);
                self.took("dead", result, |model| settle(model, number, range, Fate::Dead));
            }
            2 => {
                let epoch = self.model.partitions[&number].epoch;
                let sent = sent(range.first, range.last, epoch, self.random.i32(0..));
                let result = self.log().append(&[Entry::Sent { partition: number, sent }]);
                self.took("send", result, |model| model.partitions.get_mut(&number).expect("it is known").send(sent));
            }
            _ => self.acknowledge(number, range.last),
        }
    }

    fn acknowledge(&mut self, number: u32, last: u64) {
        let entry = Entry::Acknowledged(Acknowledged {
            partition: number,
            last,
            offset: 1,
            leader_epoch: 1,
            topic_id: [0; 16],
            possible_duplicates: 1,
        });
        let result = self.log().append(&[entry]);
        self.took(&format!("acknowledge {number} to {last}"), result, |model| {
            let advances = last >= model.partitions[&number].settled;
            model.possible_duplicates += u64::from(advances);
            if advances {
                let first = model.partitions[&number].settled;
                settle(model, number, IndexRange { first, last }, Fate::Delivered);
            }
        });
    }

    fn acknowledge_all(&mut self, number: u32) {
        let partition = &self.model.partitions[&number];
        if partition.settled < partition.next() {
            let before = self.past.len();
            self.acknowledge(number, partition.next() - 1);
            assert!(self.past.len() > before, "a note finds room when nothing is in the way");
        }
    }

    fn sync(&mut self) {
        self.finish_sync();
        let appended = self.log().appended();
        let result = self.log().sync();
        self.say(format_args!("sync: {result:?}"));
        if let Ok(synced) = result {
            assert!(synced >= appended);
        }
    }

    fn begin_or_finish_sync(&mut self) {
        if self.outcome.is_some() {
            return self.finish_sync();
        }
        if let Ok(Some(job)) = self.log().begin_sync() {
            // It runs now; that it has is known later.
            self.outcome = Some(job.run());
        }
    }

    pub fn finish_sync(&mut self) {
        if let Some(outcome) = self.outcome.take() {
            let finished = self.log().finish_sync(outcome);
            self.say(format_args!("finish sync: {finished:?}"));
        }
    }

    fn ignoring(&mut self, work: impl FnOnce(&mut Log<SimulatedStorage>) -> Result<(), LogError>) {
        let _ = work(self.log());
    }

    pub fn fault(&mut self) {
        let fault = Fault {
            after: self.random.u64(..12),
            times: self.random.u64(1..4),
            errno: ERRNOS[self.random.usize(..ERRNOS.len())],
        };
        self.say(format_args!("{fault:?}"));
        self.storage.fail(Some(fault));
    }

    /// A part of a segment, or all of it, cannot be read for a while. Not of the newest, without which nothing is opened.
    fn spoil(&mut self) {
        let mut names: Vec<String> =
            self.storage.files().into_keys().filter(|name| name.ends_with(".segment")).collect();
        names.pop();
        if names.is_empty() {
            return;
        }
        let name = &names[self.random.usize(..names.len())];
        let from = self.random.u64(..self.options.segment_bytes);
        let range = if self.random.bool() { 0..u64::MAX } else { from..from + 512 };
        self.say(format_args!("{name} cannot be read: {range:?}"));
        self.storage.spoil(name, range);
        self.tally.spoiled += 1;
    }

    fn fill_disk(&mut self) {
        let used = self.storage.used_bytes();
        let room = self.random.u64(..3 * self.options.segment_bytes);
        self.say(format_args!("the disk has room for {room}"));
        self.storage.set_capacity(used + room);
    }

    pub fn heal(&mut self) {
        self.storage.fail(None);
        self.storage.mend();
        self.storage.set_capacity(u64::MAX);
    }

    pub fn forget_what_is_durable(&mut self) {
        let synced = self.log().synced();
        while self.past.len() > 1 && self.past[1].0 <= synced {
            self.past.pop_front();
        }
    }
}

fn sent(first: u64, last: u64, epoch: i16, base_sequence: i32) -> Sent {
    Sent { range: IndexRange { first, last }, producer_id: 1, epoch, base_sequence, topic_id: [1; 16] }
}

fn settle(model: &mut Model, number: u32, range: IndexRange, fate: Fate) {
    model.partitions.get_mut(&number).expect("it is known").settle(range, fate);
}
