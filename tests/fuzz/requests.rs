//! The request parser: the same for any cuts, bounded, and of one mind with another decoder.

use meldis::resp::request::{Limits, Parser, Progress};
use redis_protocol::resp2::decode::decode;
use redis_protocol::resp2::types::OwnedFrame;

use crate::choices::Choices;
use crate::memory;

/// Bytes a parser may allocate for each byte that came: an argument's span takes 16, grows by doubling, and costs six
/// bytes of input at least.
const BYTES_PER_BYTE: u64 = 12;
/// And at first.
const BYTES_AT_FIRST: u64 = 4096;

/// What a stream of requests comes to: all that are whole, and how it ends.
#[derive(Debug, PartialEq)]
struct Outcome {
    requests: Vec<Vec<Vec<u8>>>,
    end: String,
}

pub fn check(input: &[u8]) {
    let mut choices = Choices::new(input);
    let limits = choices.pick(&[Limits::default(), Limits::new(64), Limits::unauthenticated(), short()]);
    let (stream, made) = match choices.below(3) {
        0 => (choices.rest().to_vec(), Vec::new()),
        1 => stream_of(&mut choices),
        _ => {
            let (mut stream, _) = stream_of(&mut choices);
            (0..=choices.below(4)).for_each(|_| choices.damage(&mut stream));
            (stream, Vec::new())
        }
    };
    let mut cuts: Vec<usize> = (0..choices.below(8)).map(|_| choices.below(stream.len() + 1)).collect();
    cuts.sort_unstable();
    let whole = read(&stream, &[], &limits);
    assert_eq!(read(&stream, &cuts, &limits), whole, "cut at {cuts:?}");
    if stream.len() < 512 {
        let each: Vec<usize> = (0..stream.len()).collect();
        assert_eq!(read(&stream, &each, &limits), whole, "byte by byte");
    }
    if !made.is_empty() && limits == Limits::default() {
        assert_eq!((&whole.requests, &*whole.end), (&made, "1"), "as written");
    }
    agrees_with_another_decoder(&stream, &limits);
}

fn short() -> Limits {
    let mut limits = Limits::new(1 << 40);
    (limits.args_max, limits.inline_len_max) = (3, 40);
    limits
}

/// A pipeline, and the requests that are in it.
fn stream_of(choices: &mut Choices<'_>) -> (Vec<u8>, Vec<Vec<Vec<u8>>>) {
    let (mut stream, mut made) = (Vec::new(), Vec::new());
    for _ in 0..=choices.below(4) {
        let request: Vec<Vec<u8>> = (0..=choices.below(5)).map(|_| choices.some_bytes(70)).collect();
        if choices.one_in(4) {
            write_inline(&request, &mut stream);
        } else {
            write_multibulk(&request, &mut stream);
        }
        made.push(request);
    }
    (stream, made)
}

fn write_multibulk(request: &[Vec<u8>], out: &mut Vec<u8>) {
    out.extend_from_slice(format!("*{}\r\n", request.len()).as_bytes());
    for arg in request {
        out.extend_from_slice(format!("${}\r\n", arg.len()).as_bytes());
        out.extend_from_slice(arg);
        out.extend_from_slice(b"\r\n");
    }
}

fn write_inline(request: &[Vec<u8>], out: &mut Vec<u8>) {
    for arg in request {
        out.extend_from_slice(b" \"");
        arg.iter().for_each(|byte| out.extend_from_slice(format!("\\x{byte:02x}").as_bytes()));
        out.extend_from_slice(b"\"");
    }
    out.extend_from_slice(b"\r\n");
}

/// Feeds a stream as it arrives in steps that end at `cuts`, then all of it.
fn read(stream: &[u8], cuts: &[usize], limits: &Limits) -> Outcome {
    let mut parser = Parser::new();
    let (mut requests, mut from) = (Vec::new(), 0);
    let mut end = String::new();
    for to in cuts.iter().copied().chain([stream.len()]) {
        loop {
            let buffer = &stream[from..to.max(from)];
            let (progress, bytes) = memory::allocated(|| parser.parse(buffer, limits));
            let most = BYTES_AT_FIRST + BYTES_PER_BYTE * buffer.len() as u64;
            assert!(bytes <= most, "{bytes} bytes allocated for {}", buffer.len());
            match progress {
                Ok(Progress::Complete { consumed }) => {
                    assert!(consumed > 0 && consumed <= buffer.len(), "{consumed} of {}", buffer.len());
                    let args: Vec<Vec<u8>> = parser.args(buffer).iter().map(<[u8]>::to_vec).collect();
                    let is_inline = buffer[0] != b'*';
                    assert!(is_inline || args.len() <= limits.args_max);
                    assert!(is_inline || args.iter().all(|arg| arg.len() <= limits.bulk_len_max));
                    requests.push(args);
                    from += consumed;
                }
                Ok(Progress::Incomplete { needed }) => {
                    assert!(needed > 0 && needed <= limits.bulk_len_max.max(1).saturating_add(2));
                    end = needed.to_string();
                    break;
                }
                Err(error) => return Outcome { requests, end: error.to_string() },
            }
        }
    }
    Outcome { requests, end }
}

/// A first request that both take for a multibulk one of strings has the same arguments and length.
fn agrees_with_another_decoder(stream: &[u8], limits: &Limits) {
    let mut parser = Parser::new();
    let Ok(Some((OwnedFrame::Array(frames), length))) = decode(stream) else { return };
    let strings: Option<Vec<Vec<u8>>> = frames
        .into_iter()
        .map(|frame| if let OwnedFrame::BulkString(bytes) = frame { Some(bytes) } else { None })
        .collect();
    if let (Some(strings), Ok(Progress::Complete { consumed })) = (strings, parser.parse(stream, limits)) {
        let args: Vec<Vec<u8>> = parser.args(stream).iter().map(<[u8]>::to_vec).collect();
        assert_eq!((args, consumed), (strings, length));
    }
}
