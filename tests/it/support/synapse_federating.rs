//! A Synapse that federates over TLS with nodes of the same test.

use std::{
    fs::{self, File},
    net::SocketAddr,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
};

use super::{
    Person, eventually,
    federation::{Authority, Certificate, free_port},
    http::{Address, Http},
    peers::synapse_python,
};

/// Named `localhost:PORT`, where other servers reach it. Killed when dropped.
pub struct FedSynapse {
    child: Option<Child>,
    python: PathBuf,
    name: String,
    clients: SocketAddr,
    dir: tempfile::TempDir,
}

impl Drop for FedSynapse {
    fn drop(&mut self) {
        self.kill();
        if std::thread::panicking() {
            for file in ["synapse.log", "output.log"] {
                let log = fs::read_to_string(self.dir.path().join(file)).unwrap_or_default();
                let start = log.len().saturating_sub(6000);
                eprintln!("--- {file}\n{}", log.get(start..).unwrap_or(&log));
            }
        }
    }
}

impl FedSynapse {
    /// Starts one with registration open to everybody and without limits.
    pub fn start(authority: &Authority) -> Self {
        let python = synapse_python().unwrap();
        let (federation, clients) = (free_port(), free_port());
        let certificate = authority.issue(&format!("synapse{federation}"), &["localhost", "127.0.0.1"]);
        let dir = tempfile::Builder::new().prefix("hr").tempdir().unwrap();
        let name = format!("localhost:{federation}");
        write_config(dir.path(), &python, &name, (federation, clients), &authority.file(), &certificate);
        let mut synapse = Self { child: None, python, name, clients: SocketAddr::from(([127, 0, 0, 1], clients)), dir };
        synapse.start_again();
        synapse
    }

    /// Starts it where it was killed.
    pub fn start_again(&mut self) {
        assert!(self.child.is_none(), "it runs");
        let log = File::options().create(true).append(true).open(self.dir.path().join("output.log")).unwrap();
        let child = Command::new(&self.python)
            .args(["-m", "synapse.app.homeserver", "-c"])
            .arg(self.dir.path().join("homeserver.yaml"))
            .current_dir(self.dir.path())
            .stdin(Stdio::null())
            .stdout(log.try_clone().unwrap())
            .stderr(log)
            .spawn();
        self.child = Some(child.unwrap());
        let address = self.address();
        eventually("Synapse", || {
            let answer = Http::new(address.clone()).request("GET", "/_matrix/client/versions", "", &[]);
            answer.ok().filter(|answer| answer.status == 200)
        });
    }

    /// Kills it.
    pub fn kill(&mut self) {
        if let Some(mut child) = self.child.take() {
            // It may have ended by itself.
            let _ = child.kill();
            let _ = child.wait();
        }
    }

    /// Its server name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Where clients reach it.
    pub fn address(&self) -> Address {
        Address::Tcp(self.clients)
    }

    /// A new account.
    #[track_caller]
    pub fn person(&self, name: &str) -> Person {
        Person::register(self.address(), name)
    }
}

fn write_config(dir: &Path, python: &Path, name: &str, ports: (u16, u16), ca: &Path, certificate: &Certificate) {
    let at = |name: &str| dir.join(name).display().to_string();
    let key = Command::new(python).args(["-m", "synapse._scripts.generate_signing_key", "-o", &at("signing.key")]).status();
    assert!(key.unwrap().success());
    let log = format!(
        "version: 1\nformatters: {{plain: {{format: '%(asctime)s %(levelname)s %(name)s %(message)s'}}}}\n\
         handlers: {{file: {{class: logging.FileHandler, formatter: plain, filename: '{}'}}}}\n\
         root: {{level: INFO, handlers: [file]}}\ndisable_existing_loggers: false\n",
        at("synapse.log")
    );
    fs::write(dir.join("log.yaml"), log).unwrap();
    let much = "{per_second: 10000, burst_count: 10000}";
    let mut limits = String::new();
    for name in ["rc_message", "rc_registration", "rc_joins_per_room", "rc_key_requests", "rc_room_creation"] {
        limits.push_str(&format!("{name}: {much}\n"));
    }
    limits.push_str(&format!(
        "rc_joins: {{local: {much}, remote: {much}}}\nrc_invites: {{per_room: {much}, per_user: {much}, per_issuer: {much}}}\n\
         rc_login: {{address: {much}, account: {much}, failed_attempts: {much}}}\nrc_presence: {{per_user: {much}}}\n\
         rc_federation: {{window_size: 1000, sleep_limit: 10000, sleep_delay: 1, reject_limit: 10000, concurrent: 100}}\n"
    ));
    let (federation, clients) = ports;
    let config = format!(
        "server_name: \"{name}\"\npid_file: {pid}\nsigning_key_path: {key}\nlog_config: {log}\nmedia_store_path: {media}\n\
         tls_certificate_path: {chain}\ntls_private_key_path: {tls_key}\n\
         listeners: [{{port: {federation}, bind_addresses: ['127.0.0.1'], type: http, tls: true, resources: [{{names: [federation]}}]}},\n\
          {{port: {clients}, bind_addresses: ['127.0.0.1'], type: http, tls: false, resources: [{{names: [client]}}]}}]\n\
         federation_custom_ca_list: [{ca}]\nip_range_blacklist: []\nfederation_ip_range_blacklist: []\n\
         federation: {{destination_min_retry_interval: 1s, destination_max_retry_interval: 2s}}\nallow_public_rooms_over_federation: true\n\
         database: {{name: sqlite3, args: {{database: {database}}}}}\nreport_stats: false\ntrusted_key_servers: []\n\
         suppress_key_server_warning: true\nenable_registration: true\nenable_registration_without_verification: true\n\
         registration_shared_secret: for-this-test-only\nbcrypt_rounds: 4\nroom_list_publication_rules: [{{action: allow}}]\n\
         presence: {{enabled: true}}\ncaches: {{sync_response_cache_duration: 0s}}\n{limits}",
        pid = at("pid"),
        key = at("signing.key"),
        log = at("log.yaml"),
        media = at("media"),
        database = at("homeserver.db"),
        chain = certificate.chain.display(),
        tls_key = certificate.key.display(),
        ca = ca.display(),
    );
    fs::write(dir.join("homeserver.yaml"), config).unwrap();
}
