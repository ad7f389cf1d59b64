//! An etcd member that does as it is told: the gRPC over HTTP/2 of the
//! calls that a backup makes, and its metrics over HTTP/1.

#![allow(dead_code, reason = "each test program uses its part")]

use std::convert::Infallible;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use futures::stream::{self, BoxStream, StreamExt};
use http_body_util::StreamBody;
use hyper::body::{Bytes, Frame, Incoming};
use hyper::header::{HeaderMap, HeaderValue};
use hyper::{Request, Response};
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Notify;

/// What a member does while it sends a snapshot, one after the other. After
/// the last one the stream ends well.
#[derive(Clone, Debug)]
pub(crate) enum Act {
    /// Bytes, with the number of bytes that it says are still to come.
    Send { blob: Vec<u8>, remaining: u64 },
    /// Nothing for so long, and then the next.
    Wait(Duration),
    /// Messages without bytes, each after a second.
    SendNothing { times: usize },
    /// Messages without bytes as fast as they go. Many share a frame, because
    /// the client's HTTP/2 cuts off who sends too many tiny ones.
    Flood { frames: usize },
    /// Nothing more; the stream stays open.
    Stall,
    /// The stream ends with this status.
    Fail { code: u16, message: &'static str },
}

/// How a member answers.
#[derive(Clone, Debug)]
pub(crate) struct Answers {
    pub(crate) id: u64,
    /// Id of its cluster; unless it is told otherwise nobody else has it, on this machine.
    pub(crate) cluster: u64,
    /// The last revision of its store: one for each call of its status, the last one
    /// again and again.
    pub(crate) revisions: Vec<i64>,
    /// Bytes of its database.
    pub(crate) size: u64,
    pub(crate) leader: u64,
    pub(crate) is_learner: bool,
    /// Entries of the log that it has applied.
    pub(crate) applied: u64,
    /// Members of its cluster, by id, URL, and whether it is a learner. Empty: it does not say.
    pub(crate) members: Vec<(u64, String, bool)>,
    /// Code of gRPC for a user and password.
    pub(crate) authenticate: u16,
    /// Calls of its status that it refuses, as with a token that has expired.
    pub(crate) expired: usize,
    pub(crate) snapshot: Vec<Act>,
    /// One for each call, the last one again and again.
    pub(crate) hashes: Vec<HashAnswer>,
    /// Whether it is being defragmented: one for each time that it is asked, the last one
    /// again and again. Empty: it does not say.
    pub(crate) defragments: Vec<bool>,
}

/// What a member says of the hash of its keys.
#[derive(Clone, Copy, Debug)]
pub(crate) enum HashAnswer {
    /// The hash, and the revision it is compacted at.
    Hash(u32, i64),
    /// OUT_OF_RANGE with these words.
    Refuse(&'static str),
}

impl Answers {
    /// A voting member with a leader, which sends `snapshot`.
    pub(crate) fn of(snapshot: Vec<Act>) -> Self {
        static CLUSTERS: AtomicUsize = AtomicUsize::new(0);
        let cluster = CLUSTERS.fetch_add(1, Ordering::SeqCst) as u64;
        Self {
            id: 1,
            cluster: u64::from(std::process::id()) << 16 | cluster,
            revisions: vec![0],
            size: 0,
            leader: 1,
            is_learner: false,
            applied: 0,
            members: Vec::new(),
            authenticate: 0,
            expired: 0,
            snapshot,
            hashes: Vec::new(),
            defragments: Vec::new(),
        }
    }
}

/// A member at work, until its runtime ends.
pub(crate) struct FakeMember {
    pub(crate) endpoint: String,
    state: Arc<State>,
}

struct State {
    answers: Answers,
    connections: AtomicUsize,
    authenticated: AtomicUsize,
    expired: AtomicUsize,
    asked: AtomicUsize,
    snapshots: AtomicUsize,
    hashed: AtomicUsize,
    looked: AtomicUsize,
    cut: Notify,
    given_up: Notify,
}

impl FakeMember {
    pub(crate) async fn start(answers: Answers) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let endpoint = format!("http://{}", listener.local_addr().unwrap());
        let state = Arc::new(State {
            answers,
            connections: AtomicUsize::new(0),
            authenticated: AtomicUsize::new(0),
            expired: AtomicUsize::new(0),
            asked: AtomicUsize::new(0),
            snapshots: AtomicUsize::new(0),
            hashed: AtomicUsize::new(0),
            looked: AtomicUsize::new(0),
            cut: Notify::new(),
            given_up: Notify::new(),
        });
        tokio::spawn(serve(listener, Arc::clone(&state)));
        Self { endpoint, state }
    }

    /// Connections of gRPC taken so far.
    pub(crate) fn connections(&self) -> usize {
        self.state.connections.load(Ordering::SeqCst)
    }

    /// Tokens asked for so far.
    pub(crate) fn authenticated(&self) -> usize {
        self.state.authenticated.load(Ordering::SeqCst)
    }

    /// Snapshots asked for so far.
    pub(crate) fn snapshots(&self) -> usize {
        self.state.snapshots.load(Ordering::SeqCst)
    }

    /// Hashes asked for so far.
    pub(crate) fn hashed(&self) -> usize {
        self.state.hashed.load(Ordering::SeqCst)
    }

    /// How often it has said whether it is being defragmented.
    pub(crate) fn looked(&self) -> usize {
        self.state.looked.load(Ordering::SeqCst)
    }

    /// Cuts the connection, as a member that is killed does.
    pub(crate) fn cut(&self) {
        self.state.cut.notify_one();
    }

    /// Waits until a snapshot's stream is done with, on whichever side: from
    /// then on it holds the member's database no more.
    pub(crate) async fn stream_has_ended(&self) {
        let ended = self.state.given_up.notified();
        let limit = tokio::time::timeout(Duration::from_secs(60), ended);
        limit.await.expect("the stream is still open");
    }
}

async fn serve(listener: TcpListener, state: Arc<State>) {
    while let Ok((socket, _)) = listener.accept().await {
        let state = Arc::clone(&state);
        tokio::spawn(async move {
            let mut first = [0];
            if socket.peek(&mut first).await.is_ok() && first == *b"G" {
                return metrics(socket, &state).await;
            }
            state.connections.fetch_add(1, Ordering::SeqCst);
            let answering = Arc::clone(&state);
            let service = hyper::service::service_fn(move |request| {
                std::future::ready(Ok::<_, Infallible>(answer(&request, &answering)))
            });
            let builder = hyper::server::conn::http2::Builder::new(TokioExecutor::new());
            let connection = builder.serve_connection(TokioIo::new(socket), service);
            tokio::select! {
                _ = connection => {}
                () = state.cut.notified() => {}
            }
        });
    }
}

/// Answers a GET, whatever of.
async fn metrics(mut socket: TcpStream, state: &State) {
    let mut request = [0; 1024];
    let _ = socket.read(&mut request).await;
    let call = state.looked.fetch_add(1, Ordering::SeqCst);
    let said = &state.answers.defragments;
    let metric = match said.get(call).or_else(|| said.last()) {
        Some(is_active) => format!("etcd_disk_defrag_inflight {}\n", u8::from(*is_active)),
        None => String::new(),
    };
    let answer = format!("HTTP/1.0 200 OK\r\n\r\n{metric}");
    let _ = socket.write_all(answer.as_bytes()).await;
}

type Frames = BoxStream<'static, Result<Frame<Bytes>, Infallible>>;

fn answer(request: &Request<Incoming>, state: &Arc<State>) -> Response<StreamBody<Frames>> {
    let answers = &state.answers;
    let frames = match request.uri().path() {
        "/etcdserverpb.Auth/Authenticate" => {
            state.authenticated.fetch_add(1, Ordering::SeqCst);
            one(Vec::new(), answers.authenticate)
        }
        "/etcdserverpb.Maintenance/Status"
            if state.expired.fetch_add(1, Ordering::SeqCst) < answers.expired =>
        {
            let refused = status(16, "etcdserver: invalid auth token");
            stream::iter([Ok(refused)]).boxed()
        }
        "/etcdserverpb.Maintenance/Status" => {
            let call = state.asked.fetch_add(1, Ordering::SeqCst);
            let mut status = header(answers, call);
            status.extend(number(3, answers.size));
            status.extend(number(4, answers.leader));
            status.extend(number(7, answers.applied));
            status.extend(number(10, answers.is_learner.into()));
            one(status, 0)
        }
        "/etcdserverpb.Cluster/MemberList" if answers.members.is_empty() => one(Vec::new(), 12),
        "/etcdserverpb.Cluster/MemberList" => {
            let mut list = header(answers, usize::MAX);
            for (id, url, is_learner) in &answers.members {
                let mut member = number(1, *id);
                member.extend(bytes(4, url.as_bytes()));
                member.extend(number(5, (*is_learner).into()));
                list.extend(bytes(2, &member));
            }
            one(list, 0)
        }
        "/etcdserverpb.Maintenance/Snapshot" => {
            state.snapshots.fetch_add(1, Ordering::SeqCst);
            snapshot(answers.snapshot.clone(), Open(Arc::clone(state)))
        }
        "/etcdserverpb.Maintenance/HashKV" => {
            let call = state.hashed.fetch_add(1, Ordering::SeqCst);
            match answers.hashes.get(call).or_else(|| answers.hashes.last()) {
                Some(HashAnswer::Hash(hash, compacted)) => {
                    let mut reply = header(answers, usize::MAX);
                    reply.extend(number(2, (*hash).into()));
                    reply.extend(number(3, compacted.cast_unsigned()));
                    one(reply, 0)
                }
                Some(HashAnswer::Refuse(words)) => stream::iter([Ok(status(11, words))]).boxed(),
                None => one(Vec::new(), 12),
            }
        }
        other => panic!("{other} is no call of a backup"),
    };
    let mut response = Response::new(StreamBody::new(frames));
    let kind = HeaderValue::from_static("application/grpc");
    response.headers_mut().insert("content-type", kind);
    response
}

/// Who answers, of which cluster, and what it has.
fn header(answers: &Answers, call: usize) -> Vec<u8> {
    let revisions = &answers.revisions;
    let revision = revisions.get(call).or_else(|| revisions.last());
    let mut header = number(1, answers.cluster);
    header.extend(number(2, answers.id));
    header.extend(number(3, revision.unwrap_or(&0).cast_unsigned()));
    bytes(1, &header)
}

/// Tells when a stream is dropped.
struct Open(Arc<State>);

impl Drop for Open {
    fn drop(&mut self) {
        self.0.given_up.notify_one();
    }
}

fn snapshot(acts: Vec<Act>, open: Open) -> Frames {
    let end = Act::Fail {
        code: 0,
        message: "",
    };
    stream::iter(acts.into_iter().chain([end]))
        .flat_map(move |act| {
            let _kept = &open;
            match act {
                Act::Send { blob, remaining } => {
                    let mut message = number(2, remaining);
                    message.extend(bytes(3, &blob));
                    stream::iter([Frame::data(framed(&message).into())]).boxed()
                }
                Act::Wait(time) => stream::once(tokio::time::sleep(time))
                    .flat_map(|()| stream::empty())
                    .boxed(),
                Act::SendNothing { times } => stream::iter(0..times)
                    .then(|_| async {
                        tokio::time::sleep(Duration::from_secs(1)).await;
                        Frame::data(framed(&number(2, 1)).into())
                    })
                    .boxed(),
                Act::Flood { frames } => {
                    let frame = Bytes::from(framed(&number(2, 1)).repeat(1000));
                    stream::iter(0..frames)
                        .map(move |_| Frame::data(frame.clone()))
                        .boxed()
                }
                Act::Stall => stream::pending().boxed(),
                Act::Fail { code, message } => stream::iter([status(code, message)]).boxed(),
            }
        })
        .map(Ok)
        .boxed()
}

fn one(message: Vec<u8>, code: u16) -> Frames {
    let mut frames = vec![Ok(status(code, "as told"))];
    if code == 0 {
        frames.insert(0, Ok(Frame::data(framed(&message).into())));
    }
    stream::iter(frames).boxed()
}

/// A message of gRPC: uncompressed, its length, its bytes.
fn framed(message: &[u8]) -> Vec<u8> {
    let mut frame = vec![0];
    frame.extend((message.len() as u32).to_be_bytes());
    frame.extend(message);
    frame
}

fn status(code: u16, message: &'static str) -> Frame<Bytes> {
    let mut trailers = HeaderMap::new();
    trailers.insert("grpc-status", code.into());
    trailers.insert("grpc-message", HeaderValue::from_static(message));
    Frame::trailers(trailers)
}

/// Field `field` of a protobuf message, as a number.
fn number(field: u8, value: u64) -> Vec<u8> {
    let mut bytes = vec![field << 3];
    bytes.extend(varint(value));
    bytes
}

/// Field `field` of a protobuf message, as bytes.
fn bytes(field: u8, value: &[u8]) -> Vec<u8> {
    let mut bytes = vec![field << 3 | 2];
    bytes.extend(varint(value.len() as u64));
    bytes.extend(value);
    bytes
}

fn varint(mut value: u64) -> Vec<u8> {
    let mut bytes = Vec::new();
    while value >= 0x80 {
        bytes.push(value as u8 | 0x80);
        value >>= 7;
    }
    bytes.push(value as u8);
    bytes
}
