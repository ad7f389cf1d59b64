//! The query string of a request.

use crate::store::ApiError;

/// Query parameters that the API server knows; others are ignored, as it does.
#[derive(Debug, Default, Clone)]
pub(super) struct Query {
    pub(super) label_selector: String,
    pub(super) field_selector: String,
    pub(super) limit: usize,
    pub(super) continue_token: String,
    pub(super) resource_version: String,
    pub(super) resource_version_match: String,
    pub(super) watch: bool,
    pub(super) allow_bookmarks: bool,
    pub(super) timeout_seconds: Option<u64>,
    pub(super) send_initial_events: Option<bool>,
    pub(super) dry_run: Vec<String>,
    pub(super) grace_period_seconds: Option<i64>,
    pub(super) propagation_policy: Option<String>,
}

impl Query {
    /// Reads the text behind the `?`.
    ///
    /// # Errors
    /// 400 for a number that is none.
    pub(super) fn parse(text: &str) -> Result<Self, ApiError> {
        let mut query = Self::default();
        for pair in text.split('&').filter(|pair| !pair.is_empty()) {
            let (key, value) = pair.split_once('=').unwrap_or((pair, ""));
            let value = decode(value);
            match decode(key).as_str() {
                "labelSelector" => query.label_selector = value,
                "fieldSelector" => query.field_selector = value,
                "limit" => query.limit = number(&value)?,
                "continue" => query.continue_token = value,
                "resourceVersion" => query.resource_version = value,
                "resourceVersionMatch" => query.resource_version_match = value,
                "watch" => query.watch = is_true(&value),
                "allowWatchBookmarks" => query.allow_bookmarks = is_true(&value),
                "timeoutSeconds" => query.timeout_seconds = Some(number(&value)?),
                "sendInitialEvents" => query.send_initial_events = Some(is_true(&value)),
                "dryRun" => query.dry_run.push(value),
                "gracePeriodSeconds" => query.grace_period_seconds = Some(number(&value)?),
                "propagationPolicy" => query.propagation_policy = Some(value),
                _ => {}
            }
        }
        Ok(query)
    }

    /// Whether nothing is to be written.
    ///
    /// # Errors
    /// 422 for any value but `All`.
    pub(super) fn is_dry_run(&self) -> Result<bool, ApiError> {
        is_dry_run(&self.dry_run)
    }
}

/// Reads the values of a `dryRun` parameter or field.
pub(super) fn is_dry_run(values: &[String]) -> Result<bool, ApiError> {
    match values.iter().find(|value| *value != "All") {
        None => Ok(!values.is_empty()),
        Some(other) => Err(ApiError::Other {
            code: 422,
            reason: "Invalid".to_owned(),
            message: format!(
                " \"\" is invalid: dryRun: Unsupported value: {other:?}: supported values: \"All\""
            ),
            retry_after_seconds: None,
        }),
    }
}

/// Undoes percent encoding and `+` for blanks.
pub(super) fn decode(text: &str) -> String {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((&first, tail)) = rest.split_first() {
        let escaped = match (first, tail) {
            (b'%', [high, low, ..]) => hex(*high).zip(hex(*low)).map(|(high, low)| high * 16 + low),
            _ => None,
        };
        rest = if escaped.is_some() { &tail[2..] } else { tail };
        bytes.push(escaped.unwrap_or(if first == b'+' { b' ' } else { first }));
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

fn hex(digit: u8) -> Option<u8> {
    char::from(digit)
        .to_digit(16)
        .and_then(|value| u8::try_from(value).ok())
}

fn is_true(value: &str) -> bool {
    !matches!(value, "" | "0" | "false")
}

fn number<T: std::str::FromStr>(value: &str) -> Result<T, ApiError> {
    value.parse().map_err(|_| {
        ApiError::bad_request(format!(
            "strconv.ParseInt: parsing {value:?}: invalid syntax"
        ))
    })
}
