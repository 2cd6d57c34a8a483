//! A daemon that answers as a test wants.

use std::io::{Read, Write};
use std::net::Shutdown;
use std::os::unix::net::UnixStream as StdStream;
use std::thread::{self, JoinHandle};

use tokio::net::UnixStream;

use crate::ingest::frame::answer::{encode_produce_answer, encode_versions_answer};
use crate::ingest::frame::produce::ProduceRequest;
use crate::ingest::frame::{Decoded, Limits, Request, next_request};
use crate::queue::receipt::RecordResult;
use crate::wire::codes;

/// A record as the daemon has it: key and value.
pub(super) type Seen = (Option<Vec<u8>>, Option<Vec<u8>>);

/// The other end: answers the question for limits, and does with each Produce request what `script` says.
pub(super) struct Daemon {
    thread: JoinHandle<Vec<Seen>>,
}

impl Daemon {
    /// `script` gets each request, its number from 0 and the buffer for answers; the connection ends when it returns false.
    pub(super) fn start(
        limits: Limits,
        script: impl FnMut(usize, &ProduceRequest<'_>, &mut Vec<u8>) -> bool + Send + 'static,
    ) -> (Daemon, UnixStream) {
        let (ours, theirs) = StdStream::pair().unwrap();
        theirs.set_nonblocking(true).unwrap();
        let thread = thread::spawn(move || serve(ours, limits, script));
        (Daemon { thread }, UnixStream::from_std(theirs).unwrap())
    }

    /// All records that came, after its end.
    pub(super) fn seen(self) -> Vec<Seen> {
        self.thread.join().unwrap()
    }

    pub(super) fn values(self) -> Vec<Vec<u8>> {
        self.seen().into_iter().map(|(_, value)| value.expect("a value")).collect()
    }
}

fn serve(
    mut stream: StdStream,
    limits: Limits,
    mut script: impl FnMut(usize, &ProduceRequest<'_>, &mut Vec<u8>) -> bool,
) -> Vec<Seen> {
    let (mut buffer, mut seen, mut requests) = (Vec::new(), Vec::new(), 0);
    let mut chunk = vec![0; 64 * 1024];
    let mut goes_on = true;
    loop {
        let mut out = Vec::new();
        let mut at = 0;
        while let Decoded::Frame { frame, len } = next_request(&buffer[at..], &limits) {
            match frame {
                Request::Versions(versions) => encode_versions_answer(&mut out, versions.correlation_id, &limits),
                Request::Produce(produce) => {
                    let (mut records, mut headers) = (produce.records(0), Vec::new());
                    while let Some(record) = records.next_record(&mut headers) {
                        assert!(record.stamped_here);
                        seen.push((record.key.map(<[u8]>::to_owned), record.value.map(<[u8]>::to_owned)));
                    }
                    goes_on = script(requests, &produce, &mut out);
                    requests += 1;
                }
                other => panic!("{other:?}"),
            }
            at += len;
        }
        buffer.drain(..at);
        let written = stream.write_all(&out);
        if !goes_on {
            // Read to its end, or the client would be told of a reset instead.
            let _ = stream.shutdown(Shutdown::Write);
        }
        let read = stream.read(&mut chunk).unwrap_or_default();
        if written.is_err() || read == 0 {
            return seen;
        }
        buffer.extend_from_slice(&chunk[..read]);
    }
}

/// Acknowledges a whole request.
pub(super) fn acknowledge(_: usize, request: &ProduceRequest<'_>, out: &mut Vec<u8>) -> bool {
    answer(request, &vec![codes::NONE; request.record_count as usize], None, out);
    true
}

pub(super) fn answer(request: &ProduceRequest<'_>, codes: &[i16], failure: Option<(i16, &str)>, out: &mut Vec<u8>) {
    let results: Vec<_> =
        codes.iter().map(|code| RecordResult { error_code: *code, partition: 0, offset: -1 }).collect();
    encode_produce_answer(out, request.correlation_id, failure, &results).unwrap();
}
