//! From text to versions.

use thiserror::Error;

use super::{KubeVersion, MinorVersion, PreRelease, PreReleaseStage};

/// A text that is not a version; names the text, what is wrong with it and how
/// to write it.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("{input:?} is not a Kubernetes {expected}: {problem}; {cure}")]
pub struct ParseVersionError {
    input: String,
    problem: VersionProblem,
    expected: &'static str,
    cure: &'static str,
}

/// What is wrong with a version text.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum VersionProblem {
    /// Nothing there.
    #[error("it is empty")]
    Empty,
    /// `1`
    #[error("the minor version is missing")]
    MissingMinor,
    /// `1.37.2.4`
    #[error("it has more than three numbers")]
    TooManyNumbers,
    /// `1.x`, `1..2`, or white space around a number.
    #[error("a part that must be a number is not one")]
    NotANumber,
    /// `1.037`
    #[error("a number starts with a zero")]
    LeadingZero,
    /// A number above 4294967295.
    #[error("a number is too large")]
    NumberTooLarge,
    /// `1.37-rc.1`, `1.36+k3s1`: a suffix belongs to one patch.
    #[error("it has a suffix but names no patch")]
    SuffixWithoutPatch,
    /// `1.37.0-rc.x`
    #[error("after alpha, beta or rc only numbers may follow")]
    BadPreRelease,
    /// `1.36.3+`, `1.36.3-é`
    #[error(
        "the build after `-` or `+` must be letters, digits, `.`, `-`, `_`, `+` \
         and start and end with a letter or digit"
    )]
    BadBuild,
    /// A full version where only a minor makes sense.
    #[error("it names more than a minor")]
    MoreThanMinor,
}

impl ParseVersionError {
    /// The text that was refused, cut after 80 characters.
    pub fn input(&self) -> &str {
        &self.input
    }

    /// What is wrong with it.
    pub const fn problem(&self) -> VersionProblem {
        self.problem
    }
}

pub(super) fn kube_version(text: &str) -> Result<KubeVersion, ParseVersionError> {
    read(text).map_err(|problem| ParseVersionError {
        input: excerpt(text),
        problem,
        expected: "version",
        cure: "write it like `v1.37.2`, `1.37`, `v1.37.0-rc.1` or `v1.36.3+k3s1`",
    })
}

pub(super) fn minor_version(text: &str) -> Result<MinorVersion, ParseVersionError> {
    let minor = read(text).and_then(|version| {
        let is_minor = version.patch.is_none();
        is_minor
            .then_some(version.minor)
            .ok_or(VersionProblem::MoreThanMinor)
    });
    minor.map_err(|problem| ParseVersionError {
        input: excerpt(text),
        problem,
        expected: "minor version",
        cure: "write it like `1.37`",
    })
}

fn read(text: &str) -> Result<KubeVersion, VersionProblem> {
    let text = text.strip_prefix('v').unwrap_or(text);
    if text.is_empty() {
        return Err(VersionProblem::Empty);
    }
    let (numbers, suffix) = split_before(text, &['-', '+']);
    let mut numbers = numbers.split('.');
    let major = number(numbers.next().unwrap_or_default())?;
    let minor = number(numbers.next().ok_or(VersionProblem::MissingMinor)?)?;
    let patch = numbers.next().map(number).transpose()?;
    if numbers.next().is_some() {
        return Err(VersionProblem::TooManyNumbers);
    }
    if patch.is_none() && !suffix.is_empty() {
        return Err(VersionProblem::SuffixWithoutPatch);
    }
    let (pre_release, build) = read_suffix(suffix)?;
    Ok(KubeVersion {
        minor: MinorVersion::new(major, minor),
        patch,
        pre_release,
        build,
    })
}

fn read_suffix(suffix: &str) -> Result<(Option<PreRelease>, Option<Box<str>>), VersionProblem> {
    let mut build = suffix;
    let mut pre_release = None;
    if let Some(body) = suffix.strip_prefix('-') {
        let (first, rest) = split_before(body, &['-', '+']);
        pre_release = read_pre_release(first)?;
        if pre_release.is_some() {
            build = rest;
        }
    }
    if build.is_empty() {
        return Ok((pre_release, None));
    }
    let body = build.get(1..).unwrap_or_default();
    let allowed = |c: char| c.is_ascii_alphanumeric() || ".-_+".contains(c);
    if body.starts_with(|c: char| c.is_ascii_alphanumeric())
        && body.ends_with(|c: char| c.is_ascii_alphanumeric())
        && body.chars().all(allowed)
    {
        Ok((pre_release, Some(build.into())))
    } else {
        Err(VersionProblem::BadBuild)
    }
}

/// `None` if the word is not a pre-release stage, and so part of a build.
fn read_pre_release(word: &str) -> Result<Option<PreRelease>, VersionProblem> {
    for stage in PreReleaseStage::ALL {
        let name = stage.as_str();
        let Some((head, tail)) = word.split_at_checked(name.len()) else {
            continue;
        };
        if !head.eq_ignore_ascii_case(name) {
            continue;
        }
        if tail.is_empty() {
            return Ok(Some(PreRelease::new(stage, Vec::new())));
        }
        if !tail.starts_with(|c: char| c == '.' || c.is_ascii_digit()) {
            continue;
        }
        // `rc1` is read as `rc.1`: taken for a vendor build it would count as
        // the finished release.
        let numbers = tail
            .strip_prefix('.')
            .unwrap_or(tail)
            .split('.')
            .map(number);
        let numbers = numbers.collect::<Result<Vec<_>, _>>();
        return match numbers {
            Ok(numbers) => Ok(Some(PreRelease::new(stage, numbers))),
            Err(_) => Err(VersionProblem::BadPreRelease),
        };
    }
    Ok(None)
}

fn number(text: &str) -> Result<u32, VersionProblem> {
    if text.is_empty() || !text.bytes().all(|b| b.is_ascii_digit()) {
        return Err(VersionProblem::NotANumber);
    }
    if text.len() > 1 && text.starts_with('0') {
        return Err(VersionProblem::LeadingZero);
    }
    text.parse().map_err(|_| VersionProblem::NumberTooLarge)
}

/// Splits before the first of `separators`, which stays with the second half.
fn split_before<'a>(text: &'a str, separators: &[char]) -> (&'a str, &'a str) {
    text.split_at_checked(text.find(separators).unwrap_or(text.len()))
        .unwrap_or((text, ""))
}

/// Input can be anything, a whole file included; the error stays readable.
fn excerpt(text: &str) -> String {
    text.chars().take(80).collect()
}

#[cfg(test)]
mod tests {
    use super::VersionProblem::*;
    use super::*;

    #[test]
    fn every_problem_is_named_with_input_and_cure() {
        for (text, problem) in [
            ("", Empty),
            ("v", Empty),
            ("1", MissingMinor),
            ("latest", NotANumber),
            ("1.x", NotANumber),
            ("1..2", NotANumber),
            (" 1.37", NotANumber),
            ("1.37.+2", NotANumber),
            ("-1.37", NotANumber),
            ("1.037", LeadingZero),
            ("1.99999999999", NumberTooLarge),
            ("1.37.2.4", TooManyNumbers),
            ("1.37-rc.1", SuffixWithoutPatch),
            ("1.36+k3s1", SuffixWithoutPatch),
            ("1.37.0-rc.x", BadPreRelease),
            ("1.37.0-rc.", BadPreRelease),
            ("1.37.0-beta2x", BadPreRelease),
            ("1.36.3+", BadBuild),
            ("1.36.3-", BadBuild),
            ("1.36.3-é", BadBuild),
            ("1.36.3+k3s1\n", BadBuild),
        ] {
            let error = text.parse::<KubeVersion>().unwrap_err();
            assert_eq!(error.problem(), problem, "{text:?}");
            let message = error.to_string();
            assert!(message.contains(&format!("{text:?}")), "{message}");
            assert!(message.contains("`v1.37.2`"), "{message}");
        }
    }

    #[test]
    fn long_input_is_cut() {
        let error = "9".repeat(10_000).parse::<KubeVersion>().unwrap_err();
        assert_eq!(error.input().len(), 80);
    }
}
