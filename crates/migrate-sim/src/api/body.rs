//! Response bodies made of shared pieces.

use std::collections::VecDeque;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use futures::Stream;
use http_body::{Body, Frame, SizeHint};
use tower::BoxError;

/// Pieces of a body; cloning a piece copies nothing.
pub(super) type Pieces = VecDeque<Bytes>;

/// More pieces as they come.
pub(super) type PieceStream = Pin<Box<dyn Stream<Item = Result<Pieces, BoxError>> + Send>>;

/// The body of a response: pieces that are there, then, for a watch, those to come.
///
/// An object is one piece, shared with every other response that carries the
/// same version.
pub struct ResponseBody {
    pieces: Pieces,
    more: Option<PieceStream>,
}

impl ResponseBody {
    pub(super) fn fixed(pieces: impl Into<Pieces>) -> Self {
        Self {
            pieces: pieces.into(),
            more: None,
        }
    }

    pub(super) fn streamed(more: PieceStream) -> Self {
        Self {
            pieces: Pieces::new(),
            more: Some(more),
        }
    }
}

impl Body for ResponseBody {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        loop {
            if let Some(piece) = self.pieces.pop_front() {
                return Poll::Ready(Some(Ok(Frame::data(piece))));
            }
            let Some(more) = &mut self.more else {
                return Poll::Ready(None);
            };
            match ready!(more.as_mut().poll_next(cx)) {
                Some(Ok(pieces)) => self.pieces = pieces,
                Some(Err(error)) => {
                    self.more = None;
                    return Poll::Ready(Some(Err(error)));
                }
                None => self.more = None,
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        self.pieces.is_empty() && self.more.is_none()
    }

    fn size_hint(&self) -> SizeHint {
        match self.more {
            Some(_) => SizeHint::default(),
            None => SizeHint::with_exact(self.pieces.iter().map(|piece| piece.len() as u64).sum()),
        }
    }
}

impl std::fmt::Debug for ResponseBody {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ResponseBody")
            .field("pieces", &self.pieces.len())
            .field("streamed", &self.more.is_some())
            .finish()
    }
}
