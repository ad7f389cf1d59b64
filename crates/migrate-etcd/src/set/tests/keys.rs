//! Private keys that belong to what is beside them, and those that do not.

use base64::Engine;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use rcgen::{CertificateParams, KeyPair, PublicKeyData as _, SignatureAlgorithm};

use super::*;

/// A key, its certificate, and its public half, as PEM.
struct Pair {
    certificate: String,
    private: String,
    public: String,
    /// The id that a key set has for it.
    kid: String,
}

fn pair(kind: &'static SignatureAlgorithm) -> Pair {
    let key = KeyPair::generate_for(kind).unwrap();
    let der = key.subject_public_key_info();
    Pair {
        certificate: CertificateParams::default()
            .self_signed(&key)
            .unwrap()
            .pem(),
        private: key.serialize_pem(),
        public: key.public_key_pem(),
        kid: URL_SAFE_NO_PAD.encode(Sha256::digest(der)),
    }
}

/// The same private key as Go writes it: `EC PRIVATE KEY`, which is within PKCS #8.
fn as_go_writes_it(private: &str) -> String {
    let body: String = private
        .lines()
        .filter(|line| !line.contains("--"))
        .collect();
    let der = STANDARD.decode(body).unwrap();
    let version = der.windows(4).position(|it| it == [2, 1, 1, 4]).unwrap();
    let body = STANDARD.encode(&der[version - 2..]);
    format!("-----BEGIN EC PRIVATE KEY-----\n{body}\n-----END EC PRIVATE KEY-----\n")
}

#[tokio::test]
async fn keys_of_elliptic_curves_have_to_be_halves_too() {
    let kinds = [
        &rcgen::PKCS_ECDSA_P256_SHA256,
        &rcgen::PKCS_ECDSA_P384_SHA384,
        &rcgen::PKCS_ED25519,
    ];
    for kind in kinds {
        let (ca, sa, other) = (pair(kind), pair(kind), pair(kind));
        let jwks = format!(r#"{{"keys":[{{"kid":"{}"}}]}}"#, sa.kid);
        let live = LiveKeys::parse(&ca.certificate, &jwks).unwrap();
        let taken = async |ca_key: &str, sa_key: &str| {
            let world = world();
            for (file, text) in [
                ("ca.crt", ca.certificate.as_str()),
                ("ca.key", ca_key),
                ("sa.pub", &sa.public),
                ("sa.key", sa_key),
            ] {
                world.put(&format!("etc/kubernetes/pki/{file}"), text);
            }
            let set = BackupSet::new(world.snapshot.clone()).with_node(world.node("cp-1"));
            let (_, record) = world.write(set).await.unwrap();
            record.refuse_other_keys(&live).map_err(|it| it.to_string())
        };
        taken(&ca.private, &sa.private).await.unwrap();
        if *kind != rcgen::PKCS_ED25519 {
            let [ca, sa] = [&ca, &sa].map(|key| as_go_writes_it(&key.private));
            taken(&ca, &sa).await.unwrap();
            let wrong = as_go_writes_it(&other.private);
            assert!(
                taken(&wrong, &sa)
                    .await
                    .unwrap_err()
                    .contains("no pki/ca.key")
            );
        }
        for wrong in [&other.private, &sa.private, SA_KEY, "gone"] {
            let said = taken(wrong, &sa.private).await.unwrap_err();
            assert!(said.contains("no pki/ca.key"), "{said}");
        }
        let said = taken(&ca.private, &other.private).await.unwrap_err();
        assert!(said.contains("no pki/sa.key"), "{said}");
    }
}

/// While a CA is being changed, `ca.crt` and what the cluster trusts have two certificates.
#[tokio::test]
async fn of_two_certificates_the_set_has_the_key_of_one_that_the_cluster_trusts() {
    let [old, new, stray] = [(); 3].map(|()| pair(&rcgen::PKCS_ECDSA_P256_SHA256));
    let both = |one: &Pair, other: &Pair| [&*one.certificate, &other.certificate].concat();
    let live =
        |ca: &str| LiveKeys::parse(ca, &format!(r#"{{"keys":[{{"kid":"{KID}"}}]}}"#)).unwrap();
    let taken = async |ca: &str, key: &Pair| {
        let world = world();
        world.put("etc/kubernetes/pki/ca.crt", ca);
        world.put("etc/kubernetes/pki/ca.key", &key.private);
        // Two that sign tokens: the key is that of the second.
        world.put("etc/kubernetes/pki/sa.pub", &[&*stray.public, SA].concat());
        let set = BackupSet::new(world.snapshot.clone()).with_node(world.node("cp-1"));
        world.write(set).await.unwrap().1
    };
    let trusted = live(&both(&old, &new));
    for key in [&old, &new] {
        let record = taken(&both(&old, &new), key).await;
        record.refuse_other_keys(&trusted).unwrap();
    }
    let refused = |record: &SetRecord, live: &LiveKeys| {
        let error = record.refuse_other_keys(live).unwrap_err();
        assert!(matches!(error, Error::OtherKeys { .. }), "{error}");
        error.to_string()
    };
    // In both files a certificate is the cluster's; the key is that of another one.
    let record = taken(&both(&new, &stray), &stray).await;
    let said = refused(&record, &trusted);
    assert!(said.contains("that is not the cluster's"), "{said}");
    let record = taken(&both(&old, &new), &old).await;
    let said = refused(&record, &live(&new.certificate));
    assert!(said.contains("that is not the cluster's"), "{said}");
    let record = taken(&both(&old, &new), &stray).await;
    let said = refused(&record, &trusted);
    assert!(said.contains("no pki/ca.key"), "{said}");
}
