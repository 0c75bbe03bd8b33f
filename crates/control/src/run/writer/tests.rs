//! The commit protocol on a disk that loses power, against a model.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use bastide_api::ClusterId;
use bastide_store::simulation::{Draw, SimulatedDisk, Syncs};
use bastide_store::{Barrier, KeyFileSeal, KeyRange, Table};

use aws_lc_rs::digest::{SHA256, digest};

use serde_json::Value;

use super::*;
use crate::core::audit::Lines;
use crate::core::audit::devices::DeviceId;

/// A thousand lives of a store: each is cut short, and what is found is judged.
const SEEDS: u64 = 1000;
/// Seeds that once failed, with what was wrong. They run first.
const CASES: &[u64] = &[];

const DATA: Table = Table(2);

/// What one request does: writes its number at some keys, or nothing.
#[derive(Debug, Clone)]
struct Asked {
    number: u64,
    keys: Vec<u64>,
    bytes: usize,
    /// Whether its record may be lost with the power, if nothing durable came after it.
    is_glance: bool,
}

/// The seal's key is drawn anew in each run; nothing of the outcome hangs on it.
struct Rig {
    folder: tempfile::TempDir,
    seal: KeyFileSeal,
    draw: Draw,
    disk: SimulatedDisk,
    next: u64,
    /// What is known to have happened, in order.
    history: Vec<Asked>,
}

/// A writer at work, and what it works on.
type Started = (Writer, Arc<dyn Store>, Arc<Unsealed>);

fn key(number: u64) -> Key {
    Key::new(DATA, format!("key-{number}"))
}

fn effect(number: u64) -> Key {
    Key::new(DATA, format!("effect-{number}"))
}

fn records(asked: &Asked) -> Records {
    let line = |kind: &str| {
        let (number, glance) = (asked.number, asked.is_glance);
        format!("{{\"n\":{number},\"glance\":{glance},\"type\":\"{kind}\"")
    };
    let (request, response) = (line("request"), line("response"));
    Records::own(Lines::of(request.as_bytes(), response.as_bytes()))
}

impl Rig {
    fn new(seed: u64, syncs: Syncs) -> Self {
        // What is durable is judged by what was synced, so the file may well lie in memory.
        let folder = tempfile::tempdir_in("/dev/shm").or_else(|_| tempfile::tempdir());
        let folder = folder.unwrap();
        let seal = KeyFileSeal::from_key(bastide_api::Secret::new([7; 32]));
        let disk = SimulatedDisk::new(syncs);
        let store = disk.open().unwrap();
        Barrier::initialise(&store, &seal, ClusterId::from_bytes([1; 16])).unwrap();
        disk.turn_off();
        drop(store);
        Self {
            folder,
            seal,
            // A whole store is where each life begins: its making is not what is judged here.
            draw: Draw::new(seed),
            disk,
            next: 0,
            history: Vec::new(),
        }
    }

    fn audit(&self) -> std::path::PathBuf {
        self.folder.path().join("audit.log")
    }

    fn start(&self) -> Result<Started, String> {
        let told = |error: &dyn std::error::Error| {
            let mut text = error.to_string();
            let mut cause = error.source();
            while let Some(error) = cause {
                text = format!("{text}: {error}");
                cause = error.source();
            }
            text
        };
        let store: Arc<dyn Store> = Arc::new(
            self.disk
                .open()
                .map_err(|e| format!("open: {}", told(&e)))?,
        );
        let barrier =
            Barrier::unseal(&*store, &self.seal).map_err(|e| format!("unseal: {}", told(&e)))?;
        let to = AuditTo {
            path: self.audit(),
            ahead_bytes: 0,
        };
        let (commits, _) = watch::channel(store.revision());
        let (broken, _) = watch::channel(false);
        let mut writer = Writer::new(
            Arc::clone(&store),
            Arc::clone(&barrier),
            Some(to),
            Clock::leading(None),
            commits,
            broken,
        )
        .map_err(|e| format!("writer: {}", told(&e)))?;
        // A seed must not depend on how fast this machine is.
        writer.sync_every = Duration::MAX;
        Ok((writer, store, barrier))
    }

    fn ask(&mut self) -> Asked {
        let number = self.next;
        self.next += 1;
        let keys = if self.draw.below(5) == 0 {
            Vec::new()
        } else {
            (0..=self.draw.below(3))
                .map(|_| self.draw.below(12))
                .collect()
        };
        let bytes = 1 + self.draw.below(3000);
        Asked {
            number,
            is_glance: keys.is_empty() && self.draw.below(3) != 0,
            keys,
            bytes: usize::try_from(bytes).unwrap(),
        }
    }

    fn job(
        asked: &Asked,
        barrier: &Unsealed,
    ) -> (Job, oneshot::Receiver<Result<Revision, WriteError>>) {
        let mut ops = Vec::new();
        if !asked.keys.is_empty() {
            let mut text = asked.number.to_be_bytes().to_vec();
            text.resize(8 + asked.bytes, 0x5a);
            for at in asked
                .keys
                .iter()
                .map(|at| key(*at))
                .chain([effect(asked.number)])
            {
                ops.push(Op::Put(at, text.clone()));
            }
        }
        let batch = Batch {
            compares: Vec::new(),
            ops,
        };
        let (done, answer) = oneshot::channel();
        let job = Job::Write {
            batch: barrier.seal_batch(batch),
            audit: Some(records(asked)),
            need: match (asked.is_glance, asked.keys.is_empty()) {
                (true, _) => Need::Glance,
                (false, true) => Need::Made,
                (false, false) => Need::Room,
            },
            done,
        };
        (job, answer)
    }

    /// Runs until the power goes. Returns what was asked, in order, and what was acknowledged.
    fn live(&mut self) -> Result<(Vec<Asked>, BTreeSet<u64>), String> {
        let (mut writer, store, barrier) = self.start()?;
        let mut asked = Vec::new();
        let mut acknowledged = BTreeSet::new();
        let cut = 1 + self.draw.below(250);
        self.disk.lose_power_after(cut);
        for _ in 0..60 {
            let mut group = Vec::new();
            let mut answers = Vec::new();
            for _ in 0..=self.draw.below(4) {
                let one = self.ask();
                let (job, answer) = Self::job(&one, &barrier);
                group.push(job);
                answers.push((one.number, one.is_glance, answer));
                asked.push(one);
            }
            if self.draw.below(3) == 0 {
                group.push(Job::Tick);
            }
            writer.commit(group);
            for (number, is_glance, mut answer) in answers {
                match answer.try_recv() {
                    Ok(Ok(_)) if is_glance => {}
                    Ok(Ok(_)) => {
                        acknowledged.insert(number);
                    }
                    Ok(Err(WriteError::Store)) => {}
                    other => return Err(format!("request {number} was answered {other:?}")),
                }
            }
            if self.disk.is_off() {
                break;
            }
        }
        self.disk.turn_off();
        // What the audit file was given and did not sync, a crash may take as well.
        let durable = writer.audit_durable();
        drop((writer, store));
        cut_file(&self.audit(), durable, &mut self.draw);
        self.disk = self.disk.after_crash(&mut self.draw);
        Ok((asked, acknowledged))
    }

    /// Looks at what is there, and compares it with what may be.
    fn judge(&mut self, asked: &[Asked], acknowledged: &BTreeSet<u64>) -> Result<(), String> {
        // Now and then the power goes again while the store is opened.
        for _ in 0..self.draw.below(3) {
            let cut = self.draw.below(12);
            self.disk.lose_power_after(cut);
            drop(self.start());
            self.disk = self.disk.after_crash(&mut self.draw);
        }
        let (writer, store, barrier) = self.start()?;
        drop(writer);
        let recorded = recorded(&self.audit())?;
        let mut possible = self.history.clone();
        possible.extend_from_slice(asked);
        let known = possible.iter().map(|asked| asked.number);
        if !recorded.iter().copied().eq(known.take(recorded.len())) {
            return Err(format!(
                "the record is not a beginning of what was asked: {recorded:?}"
            ));
        }
        if recorded.len() < self.history.len() {
            return Err("records of an earlier life are gone".to_owned());
        }
        possible.truncate(recorded.len());
        let happened: BTreeSet<_> = recorded.iter().copied().collect();
        if let Some(lost) = acknowledged.difference(&happened).next() {
            return Err(format!(
                "request {lost} was acknowledged, and has no record"
            ));
        }
        let mut model = BTreeMap::new();
        for asked in possible.iter().filter(|asked| !asked.keys.is_empty()) {
            for at in asked
                .keys
                .iter()
                .map(|at| key(*at))
                .chain([effect(asked.number)])
            {
                model.insert(at, asked.number);
            }
        }
        let open = OpenSnapshot::new(store.snapshot().map_err(|e| e.to_string())?, barrier);
        let all = open
            .range(&KeyRange::prefix(DATA, ""), usize::MAX)
            .map_err(|e| e.to_string())?;
        let found: BTreeMap<_, _> = all
            .into_iter()
            .map(|(key, value)| {
                let number = value.expose().first_chunk().copied().unwrap_or_default();
                (key, u64::from_be_bytes(number))
            })
            .collect();
        if found != model {
            return Err(format!(
                "the store holds {found:?}, and should hold {model:?}"
            ));
        }
        self.history = possible;
        self.disk.turn_off();
        drop((open, store));
        // What was opened stays as it is: nothing of it was acknowledged to anybody.
        self.disk = self.disk.after_crash(&mut self.draw);
        Ok(())
    }
}

fn cut_file(path: &Path, durable: u64, draw: &mut Draw) {
    let file = std::fs::File::options().write(true).open(path).unwrap();
    let length = file.metadata().unwrap().len();
    assert!(durable <= length, "what is durable is there");
    file.set_len(durable + draw.below(length - durable + 1))
        .unwrap();
}

/// Reads the audit file: the numbers of the requests, each once, in an unbroken chain.
fn recorded(path: &Path) -> Result<Vec<u64>, String> {
    let text = std::fs::read_to_string(path).map_err(|e| e.to_string())?;
    let mut previous = String::new();
    let mut numbers = Vec::new();
    let mut durable = BTreeMap::<&str, usize>::new();
    for (at, line) in text.lines().enumerate() {
        let record: Value = serde_json::from_str(line).map_err(|e| format!("{e}: {line}"))?;
        if record["seq"].as_u64() != Some(at as u64) || record["prev"] != previous.as_str() {
            return Err(format!("the chain is broken at line {at}"));
        }
        let hash = digest(&SHA256, line.as_bytes());
        previous = data_encoding::HEXLOWER.encode(hash.as_ref());
        let is_answer = record["type"] == "response";
        if is_answer {
            numbers.push(record["n"].as_u64().ok_or("a record has no number")?);
        }
        // Of what was only looked at, the power may take the second line alone.
        if record["glance"] == false {
            let kind = if is_answer { "response" } else { "request" };
            *durable.entry(kind).or_default() += 1;
        }
    }
    if durable.get("request") != durable.get("response") {
        return Err("a request is recorded by half".to_owned());
    }
    Ok(numbers)
}

/// Runs one seed; the error says what was lost.
fn run(seed: u64, syncs: Syncs) -> Result<u64, String> {
    let mut rig = Rig::new(seed, syncs);
    rig.disk = rig.disk.after_crash(&mut Draw::new(0));
    for _ in 0..=rig.draw.below(2) {
        let (asked, acknowledged) = rig.live()?;
        rig.judge(&asked, &acknowledged)?;
    }
    Ok(rig.history.len() as u64)
}

/// Runs seeds on two threads; returns what each came to.
fn run_all(seeds: &[u64], syncs: Syncs) -> Vec<(u64, Result<u64, String>)> {
    let halves = seeds.split_at(seeds.len() / 2);
    let run = |seeds: &[u64]| -> Vec<_> {
        let one = |&seed: &u64| (seed, run(seed, syncs));
        seeds.iter().map(one).collect()
    };
    std::thread::scope(|scope| {
        let first = scope.spawn(move || run(halves.0));
        let mut all = run(halves.1);
        all.extend(first.join().unwrap());
        all
    })
}

#[test]
fn what_was_acknowledged_survives_a_thousand_power_cuts() {
    let mut happened = 0;
    let seeds: Vec<_> = CASES.iter().copied().chain(0..SEEDS).collect();
    for (seed, result) in run_all(&seeds, Syncs::Hold) {
        match result {
            Ok(requests) => happened += requests,
            Err(why) => panic!("seed {seed}: {why}"),
        }
    }
    assert!(
        20 * SEEDS < happened,
        "only {happened} requests got through"
    );
}

#[test]
fn a_disk_whose_syncs_do_nothing_is_found_out() {
    let seeds: Vec<_> = (0..60).collect();
    let results = run_all(&seeds, Syncs::Lie);
    let lost = results.iter().filter(|(_, result)| result.is_err()).count();
    assert!(30 < lost, "only {lost} of 60 seeds noticed");
}

/// A job that is only looked at, and where its answer comes.
fn glance(records: Records) -> (Job, oneshot::Receiver<Result<Revision, WriteError>>) {
    let (done, answer) = oneshot::channel();
    let job = Job::Write {
        batch: Batch::default(),
        audit: Some(records),
        need: Need::Glance,
        done,
    };
    (job, answer)
}

fn looked(number: u64) -> Records {
    records(&Asked {
        number,
        keys: Vec::new(),
        bytes: 1,
        is_glance: true,
    })
}

fn rig(seed: u64) -> Rig {
    let rig = Rig::new(seed, Syncs::Hold);
    Rig {
        disk: rig.disk.after_crash(&mut Draw::new(0)),
        ..rig
    }
}

#[test]
fn a_record_that_the_device_refuses_at_the_last_moment_is_stored_before_the_answer() {
    let rig = rig(1);
    let (mut writer, store, barrier) = rig.start().unwrap();
    let stored = || {
        let outbox = KeyRange::prefix(tables::AUDIT_OUTBOX, "");
        store.snapshot().unwrap().range(&outbox, 10).unwrap().len()
    };
    let (job, mut answer) = glance(looked(0));
    writer.commit(vec![job]);
    assert!(answer.try_recv().unwrap().is_ok());
    assert_eq!(stored(), 0, "the control: the device has it");
    writer.desk.with(|audit| audit.all(Outbox::break_device));
    let (job, mut answer) = glance(looked(1));
    writer.commit(vec![job]);
    assert!(answer.try_recv().unwrap().is_ok());
    assert!(2 <= stored(), "both lines are safe from a crash");
    // The next writer gives the device what it missed.
    drop((writer, store, barrier));
    let _writer = rig.start().unwrap();
    assert_eq!(recorded(&rig.audit()).unwrap(), [0, 1]);
}

#[test]
fn records_for_devices_that_are_no_more_are_made_anew() {
    let rig = rig(2);
    let (mut writer, ..) = rig.start().unwrap();
    let mut old = looked(0);
    old.rename(DeviceId([9; 8]));
    let (job, mut answer) = glance(old);
    writer.commit(vec![job]);
    assert_eq!(answer.try_recv().unwrap(), Err(WriteError::Conflict));
    // The same where something is written.
    let mut old = looked(1);
    old.rename(DeviceId([9; 8]));
    let (done, mut answer) = oneshot::channel();
    writer.commit(vec![Job::Write {
        batch: Batch {
            compares: Vec::new(),
            ops: vec![Op::Put(key(1), b"x".to_vec())],
        },
        audit: Some(old),
        need: Need::Room,
        done,
    }]);
    assert_eq!(answer.try_recv().unwrap(), Err(WriteError::Conflict));
    assert_eq!(recorded(&rig.audit()).unwrap(), [0_u64; 0]);
    let found = writer.store.snapshot().unwrap().get(&key(1)).unwrap();
    assert!(found.is_none());
}
