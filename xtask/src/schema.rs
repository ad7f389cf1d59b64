//! The table by which `migrate-etcd` reads the objects of API servers: what each field of
//! each message is, from the sources of Kubernetes.
//!
//! Numbers and types come from `generated.proto`. What a field is called in JSON, and
//! whether it is left out there when it is zero, only the Go types say.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use migrate_testbed::Release;

use crate::process::output;

/// What is written.
const TABLE: &str = "../crates/migrate-etcd/src/objects/schema.txt";

/// `apiVersion`, kinds, and the folder of their types in its module.
const KINDS: [(&str, &str, &str); 14] = [
    (
        "v1",
        "ConfigMap Endpoints Event LimitRange Namespace Node PersistentVolume PersistentVolumeClaim Pod \
         ReplicationController ResourceQuota Secret Service ServiceAccount",
        "api/core/v1",
    ),
    (
        "admissionregistration.k8s.io/v1",
        "MutatingWebhookConfiguration ValidatingWebhookConfiguration",
        "api/admissionregistration/v1",
    ),
    (
        "apiextensions.k8s.io/v1",
        "CustomResourceDefinition",
        "apiextensions-apiserver/pkg/apis/apiextensions/v1",
    ),
    (
        "apiregistration.k8s.io/v1",
        "APIService",
        "kube-aggregator/pkg/apis/apiregistration/v1",
    ),
    (
        "apps/v1",
        "ControllerRevision DaemonSet Deployment ReplicaSet StatefulSet",
        "api/apps/v1",
    ),
    (
        "autoscaling/v2",
        "HorizontalPodAutoscaler",
        "api/autoscaling/v2",
    ),
    ("batch/v1", "CronJob Job", "api/batch/v1"),
    ("coordination.k8s.io/v1", "Lease", "api/coordination/v1"),
    ("discovery.k8s.io/v1", "EndpointSlice", "api/discovery/v1"),
    (
        "networking.k8s.io/v1",
        "Ingress NetworkPolicy",
        "api/networking/v1",
    ),
    ("policy/v1", "PodDisruptionBudget", "api/policy/v1"),
    (
        "rbac.authorization.k8s.io/v1",
        "ClusterRole ClusterRoleBinding Role RoleBinding",
        "api/rbac/v1",
    ),
    ("scheduling.k8s.io/v1", "PriorityClass", "api/scheduling/v1"),
    (
        "storage.k8s.io/v1",
        "CSIDriver CSINode StorageClass VolumeAttachment",
        "api/storage/v1",
    ),
];

/// Folders of what all of these refer to.
const SHARED: [&str; 2] = ["api/scheduling/v1alpha3", "apimachinery/pkg/apis/meta/v1"];

/// Messages that the reader writes in a way of their own, so that their fields are none
/// of the table.
const OWN: [&str; 11] = [
    "apiextensions.v1.JSON",
    "apiextensions.v1.JSONSchemaPropsOrArray",
    "apiextensions.v1.JSONSchemaPropsOrBool",
    "apiextensions.v1.JSONSchemaPropsOrStringArray",
    "intstr.IntOrString",
    "meta.v1.Duration",
    "meta.v1.FieldsV1",
    "meta.v1.MicroTime",
    "meta.v1.Time",
    "resource.Quantity",
    "runtime.RawExtension",
];

/// Writes the table anew.
pub(crate) fn write() -> Result<(), String> {
    let release = Release::TESTED.last().ok_or("no release is tested")?;
    let version = release.kubernetes.replacen('1', "0", 1);
    let cache = output(Command::new("go").args(["env", "GOMODCACHE"]))?;
    let place = |folder: &str| -> PathBuf {
        let (module, rest) = folder.split_once('/').unwrap_or((folder, ""));
        Path::new(cache.trim()).join(format!("k8s.io/{module}@v{version}/{rest}"))
    };
    let folders = KINDS.iter().map(|(.., folder)| *folder).chain(SHARED);
    let mut messages = BTreeMap::new();
    for folder in folders {
        let folder = place(folder);
        let proto = read(&folder.join("generated.proto"))?;
        let types = go_sources(&folder)?;
        messages.extend(messages_of(&proto, &types)?);
    }
    let mut text = format!(
        "# Messages of Kubernetes {}, by `cargo xtask schema`: not to be edited.\n",
        release.kubernetes
    );
    let mut roots = Vec::new();
    for (api_version, names, folder) in KINDS {
        let package = read(&place(folder).join("generated.proto"))?;
        let package = package_of(&package)?;
        for name in names.split(' ') {
            let message = format!("{package}.{name}");
            let _ = writeln!(text, "kind {api_version} {name} {message}");
            roots.push(message);
        }
    }
    for name in reached(&messages, roots)? {
        let fields: Vec<_> = messages[&name].iter().map(Field::line).collect();
        let _ = writeln!(text, "{name}: {}", fields.join(", "));
    }
    let table = Path::new(env!("CARGO_MANIFEST_DIR")).join(TABLE);
    std::fs::write(&table, text).map_err(|error| format!("{}: {error}", table.display()))
}

fn read(path: &Path) -> Result<String, String> {
    std::fs::read_to_string(path).map_err(|error| {
        let cure = "`cargo xtask testbed` brings the sources";
        format!("{}: {error}; {cure}", path.display())
    })
}

/// The types of a folder, without what is made of them.
fn go_sources(folder: &Path) -> Result<String, String> {
    let failed = |error: std::io::Error| format!("{}: {error}", folder.display());
    let mut text = String::new();
    for entry in std::fs::read_dir(folder).map_err(failed)? {
        let name = entry.map_err(failed)?.file_name();
        let name = name.to_string_lossy();
        let is_made = name.contains("generated") || name.ends_with("_test.go");
        if name.ends_with(".go") && !is_made {
            text.push_str(&read(&folder.join(&*name))?);
        }
    }
    Ok(text)
}

/// A field as the table has it.
#[derive(Debug)]
struct Field {
    number: u32,
    json: String,
    /// `[]` or `{}` before it.
    shape: &'static str,
    kind: String,
    omits_zero: bool,
}

impl Field {
    fn line(&self) -> String {
        let Self {
            number,
            json,
            shape,
            kind,
            ..
        } = self;
        let mark = if self.omits_zero { "?" } else { "" };
        format!("{number} {json} {shape}{kind}{mark}")
    }

    fn is_message(&self) -> bool {
        self.kind.contains('.')
    }
}

/// What the Go type says of a field.
#[derive(Debug, Eq, PartialEq)]
struct Tag {
    /// Its name in JSON, `-` for one that is embedded.
    json: String,
    is_pointer: bool,
    omits_empty: bool,
    omits_zero: bool,
}

type Tags = BTreeMap<(String, u32), Tag>;

fn messages_of(proto: &str, types: &str) -> Result<BTreeMap<String, Vec<Field>>, String> {
    let package = package_of(proto)?;
    let tags = tags_of(types);
    let mut messages = BTreeMap::new();
    let mut current: Option<String> = None;
    for line in proto.lines() {
        let line = line.trim();
        if let Some(name) = line
            .strip_prefix("message ")
            .and_then(|it| it.strip_suffix(" {"))
        {
            messages.insert(format!("{package}.{name}"), Vec::new());
            current = Some(name.to_owned());
        } else if line == "}" {
            current = None;
        } else if let Some(name) = &current
            && !line.starts_with("//")
            && let Some((field, number)) =
                line.strip_suffix(';').and_then(|it| it.split_once(" = "))
        {
            let full = format!("{package}.{name}");
            if OWN.contains(&full.as_str()) {
                continue;
            }
            let malformed = || format!("{full}: {line}");
            let number = number.parse().map_err(|_| malformed())?;
            // What Go does not keep in this message, nobody writes.
            let Some(tag) = tags.get(&(name.clone(), number)) else {
                continue;
            };
            let field = field_of(&package, field, number, tag).ok_or_else(malformed)?;
            messages.entry(full).or_insert_with(Vec::new).push(field);
        }
    }
    Ok(messages)
}

/// `k8s.io.apimachinery.pkg.apis.meta.v1` is `meta.v1`, and `….util.intstr` is `intstr`.
fn package_of(proto: &str) -> Result<String, String> {
    let lines = proto.lines();
    let mut packages = lines.filter_map(|line| line.strip_prefix("package ")?.strip_suffix(';'));
    packages
        .next()
        .map(short)
        .ok_or_else(|| "a file without a package".to_owned())
}

fn short(package: &str) -> String {
    let parts: Vec<_> = package.split('.').collect();
    match parts.as_slice() {
        [.., group, version] if version.starts_with('v') => format!("{group}.{version}"),
        [.., last] => (*last).to_owned(),
        [] => String::new(),
    }
}

/// `optional string name`, `repeated Volume volumes`, `map<string, bytes> data`.
fn field_of(package: &str, text: &str, number: u32, tag: &Tag) -> Option<Field> {
    let (shape, kind) = match text.strip_prefix("map<string, ") {
        Some(rest) => ("{}", rest.split_once("> ")?.0),
        None => {
            let mut words = text.split(' ');
            let shape = match words.next()? {
                "optional" => "",
                "repeated" => "[]",
                _ => return None,
            };
            (shape, words.next()?)
        }
    };
    let kind = match kind {
        "bool" | "bytes" | "double" | "string" => kind.to_owned(),
        "int32" | "int64" | "uint32" | "uint64" => "int".to_owned(),
        _ => match kind.trim_start_matches('.').rsplit_once('.') {
            Some((package, name)) => format!("{}.{name}", short(package)),
            None => format!("{package}.{kind}"),
        },
    };
    let is_message = kind.contains('.');
    let omits = tag.omits_zero || (tag.omits_empty && !is_message);
    Some(Field {
        number,
        json: tag.json.clone(),
        shape,
        kind,
        omits_zero: shape.is_empty() && !tag.is_pointer && omits,
    })
}

/// The fields of all structures that have a number.
fn tags_of(types: &str) -> Tags {
    let mut tags = Tags::new();
    let mut current = None;
    for line in types.lines() {
        if let Some(name) = line
            .strip_prefix("type ")
            .and_then(|it| it.strip_suffix(" struct {"))
        {
            current = Some(name.to_owned());
        } else if line == "}" {
            current = None;
        } else if let Some(name) = &current
            && let Some((number, tag)) = tag_of(line.trim())
        {
            tags.insert((name.clone(), number), tag);
        }
    }
    tags
}

/// ``Replicas *int32 `json:"replicas,omitempty" protobuf:"varint,1,opt,name=replicas"` ``
fn tag_of(line: &str) -> Option<(u32, Tag)> {
    if line.starts_with("//") {
        return None;
    }
    let (declared, tags) = line.split_once('`')?;
    let quoted = |key: &str| tags.split_once(key)?.1.split_once('"').map(|it| it.0);
    let number = quoted("protobuf:\"")?.split(',').nth(1)?.parse().ok()?;
    let mut json = quoted("json:\"")?.split(',');
    let name = json.next()?;
    let words: Vec<_> = declared.split_whitespace().collect();
    let is_embedded = words.len() == 1 && name.is_empty();
    let options: BTreeSet<_> = json.collect();
    let tag = Tag {
        json: if is_embedded { "-" } else { name }.to_owned(),
        is_pointer: words.last()?.starts_with('*'),
        omits_empty: options.contains("omitempty"),
        omits_zero: options.contains("omitzero"),
    };
    Some((number, tag))
}

/// The messages that can lie in `roots`, and these.
fn reached(
    messages: &BTreeMap<String, Vec<Field>>,
    roots: Vec<String>,
) -> Result<BTreeSet<String>, String> {
    let mut found = BTreeSet::new();
    let mut open: VecDeque<_> = roots.into();
    // Schemas lie in messages that are not of the table.
    open.push_back("apiextensions.v1.JSONSchemaProps".to_owned());
    while let Some(name) = open.pop_front() {
        if OWN.contains(&name.as_str()) || !found.insert(name.clone()) {
            continue;
        }
        let fields = messages
            .get(&name)
            .ok_or_else(|| format!("{name} is in no file"))?;
        let further = fields.iter().filter(|field| field.is_message());
        open.extend(further.map(|field| field.kind.clone()));
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_field_is_named_by_json_and_left_out_as_go_does() {
        let proto = "package k8s.io.api.core.v1;\n\
            message Volume {\n  // name = 7;\n  optional string name = 1;\n\
            optional VolumeSource volumeSource = 2;\n\
            map<string, .k8s.io.apimachinery.pkg.api.resource.Quantity> limits = 3;\n\
            repeated .k8s.io.apimachinery.pkg.apis.meta.v1.Time times = 4;\n\
            optional int32 some = 5;\n  optional int64 other = 6;\n\
            optional VolumeSource last = 8;\n}\n";
        let types = "type Volume struct {\n\
            \t// Old string `json:\"old\" protobuf:\"bytes,9,opt,name=old\"`\n\
            \tName string `json:\"called\" protobuf:\"bytes,1,opt,name=name\"`\n\
            \tVolumeSource `json:\"\" protobuf:\"bytes,2,opt,name=volumeSource\"`\n\
            \tLimits ResourceList `json:\"limits,omitempty\" protobuf:\"bytes,3,rep,name=limits\"`\n\
            \tTimes []Time `json:\"times\" protobuf:\"bytes,4,rep,name=times\"`\n\
            \tSome *int32 `json:\"some,omitempty\" protobuf:\"varint,5,opt,name=some\"`\n\
            \tOther int64 `json:\"other,omitempty\" protobuf:\"varint,6,opt,name=other\"`\n\
            \tLast VolumeSource `json:\"last,omitempty,omitzero\" protobuf:\"bytes,8,opt,name=last\"`\n\
            }\n";
        let messages = messages_of(proto, types).unwrap();
        let lines: Vec<_> = messages["core.v1.Volume"].iter().map(Field::line).collect();
        assert_eq!(
            lines,
            [
                "1 called string",
                "2 - core.v1.VolumeSource",
                "3 limits {}resource.Quantity",
                "4 times []meta.v1.Time",
                "5 some int",
                "6 other int?",
                "8 last core.v1.VolumeSource?",
            ]
        );
        let error = reached(&messages, vec!["core.v1.Volume".to_owned()]).unwrap_err();
        assert!(
            error.contains("VolumeSource") || error.contains("JSONSchemaProps"),
            "{error}"
        );
    }
}
