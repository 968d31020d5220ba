# Print an optspec for argparse to handle cmd's options that are independent of any subcommand.
function __fish_homeroom_global_optspecs
    string join \n profile= config= c/set= h/help V/version
end

function __fish_homeroom_needs_command
    # Figure out if the current invocation already has a command.
    set -l cmd (commandline -opc)
    set -e cmd[1]
    argparse -s (__fish_homeroom_global_optspecs) -- $cmd 2>/dev/null
    or return
    if set -q argv[1]
        # Also print the command, so this can be used to figure out what it is.
        echo $argv[1]
        return 1
    end
    return 0
end

function __fish_homeroom_using_subcommand
    set -l cmd (__fish_homeroom_needs_command)
    test -z "$cmd"
    and return 1
    contains -- $cmd[1] $argv
end

complete -c homeroom -n "__fish_homeroom_needs_command" -l profile -d 'Profile to use: each has its own account, keys, messages and node' -r
complete -c homeroom -n "__fish_homeroom_needs_command" -l config -d 'Read settings from this file only, instead of the ones in the configuration directory' -r -F
complete -c homeroom -n "__fish_homeroom_needs_command" -s c -l set -d 'Set one setting for this run, such as `ui.theme=light`; may be given several times' -r
complete -c homeroom -n "__fish_homeroom_needs_command" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c homeroom -n "__fish_homeroom_needs_command" -s V -l version -d 'Print version'
complete -c homeroom -n "__fish_homeroom_needs_command" -f -a "demo" -d 'Look around: a throw-away node with people, rooms and a past'
complete -c homeroom -n "__fish_homeroom_needs_command" -f -a "serve" -d 'Run the profile\'s own node without a screen, until SIGTERM or Ctrl+C'
complete -c homeroom -n "__fish_homeroom_needs_command" -f -a "login" -d 'Sign in to a homeserver'
complete -c homeroom -n "__fish_homeroom_needs_command" -f -a "logout" -d 'Sign out and delete this device\'s local data'
complete -c homeroom -n "__fish_homeroom_needs_command" -f -a "send" -d 'Send a message'
complete -c homeroom -n "__fish_homeroom_needs_command" -f -a "tail" -d 'Print messages as they arrive'
complete -c homeroom -n "__fish_homeroom_needs_command" -f -a "rooms" -d 'List the rooms'
complete -c homeroom -n "__fish_homeroom_needs_command" -f -a "recovery-key" -d 'Show the key that opens encrypted history on another device'
complete -c homeroom -n "__fish_homeroom_needs_command" -f -a "account" -d 'Manage accounts on the profile\'s own node'
complete -c homeroom -n "__fish_homeroom_needs_command" -f -a "doctor" -d 'Look at the node as other servers see it, or at another server: names, certificates, keys, clocks'
complete -c homeroom -n "__fish_homeroom_needs_command" -f -a "config" -d 'Print the settings in force and where each comes from'
complete -c homeroom -n "__fish_homeroom_needs_command" -f -a "manual" -d 'Show a manual page, or write all of them'
complete -c homeroom -n "__fish_homeroom_needs_command" -f -a "completions" -d 'Print a completion script for a shell'
complete -c homeroom -n "__fish_homeroom_needs_command" -f -a "help" -d 'Print this message or the help of the given subcommand(s)'
complete -c homeroom -n "__fish_homeroom_using_subcommand demo" -l seed -d 'Number that decides about everything that is random' -r
complete -c homeroom -n "__fish_homeroom_using_subcommand demo" -l rooms -d 'Number of rooms, at least those that are written by hand' -r
complete -c homeroom -n "__fish_homeroom_using_subcommand demo" -l messages -d 'Number of messages in the longest room' -r
complete -c homeroom -n "__fish_homeroom_using_subcommand demo" -l listen -d 'Address for other programs, plain HTTP; may be given several times' -r
complete -c homeroom -n "__fish_homeroom_using_subcommand demo" -l profile -d 'Profile to use: each has its own account, keys, messages and node' -r
complete -c homeroom -n "__fish_homeroom_using_subcommand demo" -l config -d 'Read settings from this file only, instead of the ones in the configuration directory' -r -F
complete -c homeroom -n "__fish_homeroom_using_subcommand demo" -s c -l set -d 'Set one setting for this run, such as `ui.theme=light`; may be given several times' -r
complete -c homeroom -n "__fish_homeroom_using_subcommand demo" -l quiet -d 'Nobody goes on talking once the past is told'
complete -c homeroom -n "__fish_homeroom_using_subcommand demo" -s h -l help -d 'Print help'
complete -c homeroom -n "__fish_homeroom_using_subcommand serve" -l data-dir -d 'Directory of the node\'s data (setting node.data_dir)' -r -f -a "(__fish_complete_directories)"
complete -c homeroom -n "__fish_homeroom_using_subcommand serve" -l server-name -d 'Server name, the part behind the colon in user IDs; fixed once the node exists (setting node.server_name)' -r
complete -c homeroom -n "__fish_homeroom_using_subcommand serve" -l listen -d 'Address for other programs, plain HTTP; may be given several times (setting node.listen)' -r
complete -c homeroom -n "__fish_homeroom_using_subcommand serve" -l listen-tls -d 'Address for clients and other servers, with TLS; may be given several times (setting node.listen_tls)' -r
complete -c homeroom -n "__fish_homeroom_using_subcommand serve" -l tls-cert -d 'PEM file with the certificate (setting node.tls_cert)' -r -F
complete -c homeroom -n "__fish_homeroom_using_subcommand serve" -l tls-key -d 'PEM file with the certificate\'s private key (setting node.tls_key)' -r -F
complete -c homeroom -n "__fish_homeroom_using_subcommand serve" -l extra-ca -d 'PEM file of further certificate authorities for connections to other servers (setting node.extra_ca)' -r -F
complete -c homeroom -n "__fish_homeroom_using_subcommand serve" -l public-base-url -d 'Address at which others reach the node through a proxy (setting node.public_base_url)' -r
complete -c homeroom -n "__fish_homeroom_using_subcommand serve" -l registration-shared-secret-file -d 'File with the secret by which scripts make accounts (setting node.registration_shared_secret_file)' -r -F
complete -c homeroom -n "__fish_homeroom_using_subcommand serve" -l registration -d 'Who may create an account: closed, token or open (setting node.registration)' -r
complete -c homeroom -n "__fish_homeroom_using_subcommand serve" -l profile -d 'Profile to use: each has its own account, keys, messages and node' -r
complete -c homeroom -n "__fish_homeroom_using_subcommand serve" -l config -d 'Read settings from this file only, instead of the ones in the configuration directory' -r -F
complete -c homeroom -n "__fish_homeroom_using_subcommand serve" -s c -l set -d 'Set one setting for this run, such as `ui.theme=light`; may be given several times' -r
complete -c homeroom -n "__fish_homeroom_using_subcommand serve" -l allow-private-networks -d 'Connect to other servers at private addresses as well (setting node.allow_private_networks)'
complete -c homeroom -n "__fish_homeroom_using_subcommand serve" -l no-rate-limits -d 'Do not limit how often a client may try passwords, send and register (setting node.rate_limits)'
complete -c homeroom -n "__fish_homeroom_using_subcommand serve" -s h -l help -d 'Print help'
complete -c homeroom -n "__fish_homeroom_using_subcommand login" -l server -d 'Server name or base URL, where it is not what the user ID says' -r
complete -c homeroom -n "__fish_homeroom_using_subcommand login" -l password-file -d 'Read the password from the first line of this file (`-` is standard input) instead of asking for it' -r -F
complete -c homeroom -n "__fish_homeroom_using_subcommand login" -l profile -d 'Profile to use: each has its own account, keys, messages and node' -r
complete -c homeroom -n "__fish_homeroom_using_subcommand login" -l config -d 'Read settings from this file only, instead of the ones in the configuration directory' -r -F
complete -c homeroom -n "__fish_homeroom_using_subcommand login" -s c -l set -d 'Set one setting for this run, such as `ui.theme=light`; may be given several times' -r
complete -c homeroom -n "__fish_homeroom_using_subcommand login" -l json -d 'Print JSON'
complete -c homeroom -n "__fish_homeroom_using_subcommand login" -s h -l help -d 'Print help'
complete -c homeroom -n "__fish_homeroom_using_subcommand logout" -l profile -d 'Profile to use: each has its own account, keys, messages and node' -r
complete -c homeroom -n "__fish_homeroom_using_subcommand logout" -l config -d 'Read settings from this file only, instead of the ones in the configuration directory' -r -F
complete -c homeroom -n "__fish_homeroom_using_subcommand logout" -s c -l set -d 'Set one setting for this run, such as `ui.theme=light`; may be given several times' -r
complete -c homeroom -n "__fish_homeroom_using_subcommand logout" -l force -d 'Sign out even if the server cannot be told; it then still lists this device'
complete -c homeroom -n "__fish_homeroom_using_subcommand logout" -l json -d 'Print JSON'
complete -c homeroom -n "__fish_homeroom_using_subcommand logout" -s h -l help -d 'Print help'
complete -c homeroom -n "__fish_homeroom_using_subcommand send" -l profile -d 'Profile to use: each has its own account, keys, messages and node' -r
complete -c homeroom -n "__fish_homeroom_using_subcommand send" -l config -d 'Read settings from this file only, instead of the ones in the configuration directory' -r -F
complete -c homeroom -n "__fish_homeroom_using_subcommand send" -s c -l set -d 'Set one setting for this run, such as `ui.theme=light`; may be given several times' -r
complete -c homeroom -n "__fish_homeroom_using_subcommand send" -l literal -d 'Send the text exactly as it stands, without markdown'
complete -c homeroom -n "__fish_homeroom_using_subcommand send" -l emote -d 'Send as an action, like /me'
complete -c homeroom -n "__fish_homeroom_using_subcommand send" -l json -d 'Print JSON'
complete -c homeroom -n "__fish_homeroom_using_subcommand send" -s h -l help -d 'Print help'
complete -c homeroom -n "__fish_homeroom_using_subcommand tail" -l profile -d 'Profile to use: each has its own account, keys, messages and node' -r
complete -c homeroom -n "__fish_homeroom_using_subcommand tail" -l config -d 'Read settings from this file only, instead of the ones in the configuration directory' -r -F
complete -c homeroom -n "__fish_homeroom_using_subcommand tail" -s c -l set -d 'Set one setting for this run, such as `ui.theme=light`; may be given several times' -r
complete -c homeroom -n "__fish_homeroom_using_subcommand tail" -l json -d 'Print JSON, one object for each event and line'
complete -c homeroom -n "__fish_homeroom_using_subcommand tail" -s h -l help -d 'Print help'
complete -c homeroom -n "__fish_homeroom_using_subcommand rooms" -l profile -d 'Profile to use: each has its own account, keys, messages and node' -r
complete -c homeroom -n "__fish_homeroom_using_subcommand rooms" -l config -d 'Read settings from this file only, instead of the ones in the configuration directory' -r -F
complete -c homeroom -n "__fish_homeroom_using_subcommand rooms" -s c -l set -d 'Set one setting for this run, such as `ui.theme=light`; may be given several times' -r
complete -c homeroom -n "__fish_homeroom_using_subcommand rooms" -l json -d 'Print JSON, one object for each room and line'
complete -c homeroom -n "__fish_homeroom_using_subcommand rooms" -l unread -d 'List only rooms with unread messages or invitations'
complete -c homeroom -n "__fish_homeroom_using_subcommand rooms" -s h -l help -d 'Print help'
complete -c homeroom -n "__fish_homeroom_using_subcommand recovery-key" -l profile -d 'Profile to use: each has its own account, keys, messages and node' -r
complete -c homeroom -n "__fish_homeroom_using_subcommand recovery-key" -l config -d 'Read settings from this file only, instead of the ones in the configuration directory' -r -F
complete -c homeroom -n "__fish_homeroom_using_subcommand recovery-key" -s c -l set -d 'Set one setting for this run, such as `ui.theme=light`; may be given several times' -r
complete -c homeroom -n "__fish_homeroom_using_subcommand recovery-key" -l json -d 'Print JSON'
complete -c homeroom -n "__fish_homeroom_using_subcommand recovery-key" -s h -l help -d 'Print help'
complete -c homeroom -n "__fish_homeroom_using_subcommand account; and not __fish_seen_subcommand_from create token new-key reports troubles invites help" -l profile -d 'Profile to use: each has its own account, keys, messages and node' -r
complete -c homeroom -n "__fish_homeroom_using_subcommand account; and not __fish_seen_subcommand_from create token new-key reports troubles invites help" -l config -d 'Read settings from this file only, instead of the ones in the configuration directory' -r -F
complete -c homeroom -n "__fish_homeroom_using_subcommand account; and not __fish_seen_subcommand_from create token new-key reports troubles invites help" -s c -l set -d 'Set one setting for this run, such as `ui.theme=light`; may be given several times' -r
complete -c homeroom -n "__fish_homeroom_using_subcommand account; and not __fish_seen_subcommand_from create token new-key reports troubles invites help" -s h -l help -d 'Print help'
complete -c homeroom -n "__fish_homeroom_using_subcommand account; and not __fish_seen_subcommand_from create token new-key reports troubles invites help" -f -a "create" -d 'Create an account on the profile\'s own node, whether it runs or not'
complete -c homeroom -n "__fish_homeroom_using_subcommand account; and not __fish_seen_subcommand_from create token new-key reports troubles invites help" -f -a "token" -d 'Make a registration token, for a node with `registration = "token"`'
complete -c homeroom -n "__fish_homeroom_using_subcommand account; and not __fish_seen_subcommand_from create token new-key reports troubles invites help" -f -a "new-key" -d 'Make a new signing key for the node, when the old one may have been seen by others; the old one is published as past'
complete -c homeroom -n "__fish_homeroom_using_subcommand account; and not __fish_seen_subcommand_from create token new-key reports troubles invites help" -f -a "reports" -d 'Show what users of the node have reported to its owner, newest first'
complete -c homeroom -n "__fish_homeroom_using_subcommand account; and not __fish_seen_subcommand_from create token new-key reports troubles invites help" -f -a "troubles" -d 'Show what does not work: push gateways and application services that take nothing'
complete -c homeroom -n "__fish_homeroom_using_subcommand account; and not __fish_seen_subcommand_from create token new-key reports troubles invites help" -f -a "invites" -d 'Show the invites that are held (setting node.hold_strangers), or decide about one'
complete -c homeroom -n "__fish_homeroom_using_subcommand account; and not __fish_seen_subcommand_from create token new-key reports troubles invites help" -f -a "help" -d 'Print this message or the help of the given subcommand(s)'
complete -c homeroom -n "__fish_homeroom_using_subcommand account; and __fish_seen_subcommand_from create" -l password-file -d 'Read the password from the first line of this file (`-` is standard input) instead of asking for it' -r -F
complete -c homeroom -n "__fish_homeroom_using_subcommand account; and __fish_seen_subcommand_from create" -l profile -d 'Profile to use: each has its own account, keys, messages and node' -r
complete -c homeroom -n "__fish_homeroom_using_subcommand account; and __fish_seen_subcommand_from create" -l config -d 'Read settings from this file only, instead of the ones in the configuration directory' -r -F
complete -c homeroom -n "__fish_homeroom_using_subcommand account; and __fish_seen_subcommand_from create" -s c -l set -d 'Set one setting for this run, such as `ui.theme=light`; may be given several times' -r
complete -c homeroom -n "__fish_homeroom_using_subcommand account; and __fish_seen_subcommand_from create" -l admin -d 'Let the account do everything on the node'
complete -c homeroom -n "__fish_homeroom_using_subcommand account; and __fish_seen_subcommand_from create" -l json -d 'Print JSON'
complete -c homeroom -n "__fish_homeroom_using_subcommand account; and __fish_seen_subcommand_from create" -s h -l help -d 'Print help'
complete -c homeroom -n "__fish_homeroom_using_subcommand account; and __fish_seen_subcommand_from token" -l uses -d 'How many accounts the token is good for' -r
complete -c homeroom -n "__fish_homeroom_using_subcommand account; and __fish_seen_subcommand_from token" -l days -d 'For how many days' -r
complete -c homeroom -n "__fish_homeroom_using_subcommand account; and __fish_seen_subcommand_from token" -l profile -d 'Profile to use: each has its own account, keys, messages and node' -r
complete -c homeroom -n "__fish_homeroom_using_subcommand account; and __fish_seen_subcommand_from token" -l config -d 'Read settings from this file only, instead of the ones in the configuration directory' -r -F
complete -c homeroom -n "__fish_homeroom_using_subcommand account; and __fish_seen_subcommand_from token" -s c -l set -d 'Set one setting for this run, such as `ui.theme=light`; may be given several times' -r
complete -c homeroom -n "__fish_homeroom_using_subcommand account; and __fish_seen_subcommand_from token" -l json -d 'Print JSON'
complete -c homeroom -n "__fish_homeroom_using_subcommand account; and __fish_seen_subcommand_from token" -s h -l help -d 'Print help'
complete -c homeroom -n "__fish_homeroom_using_subcommand account; and __fish_seen_subcommand_from new-key" -l profile -d 'Profile to use: each has its own account, keys, messages and node' -r
complete -c homeroom -n "__fish_homeroom_using_subcommand account; and __fish_seen_subcommand_from new-key" -l config -d 'Read settings from this file only, instead of the ones in the configuration directory' -r -F
complete -c homeroom -n "__fish_homeroom_using_subcommand account; and __fish_seen_subcommand_from new-key" -s c -l set -d 'Set one setting for this run, such as `ui.theme=light`; may be given several times' -r
complete -c homeroom -n "__fish_homeroom_using_subcommand account; and __fish_seen_subcommand_from new-key" -l json -d 'Print JSON'
complete -c homeroom -n "__fish_homeroom_using_subcommand account; and __fish_seen_subcommand_from new-key" -s h -l help -d 'Print help'
complete -c homeroom -n "__fish_homeroom_using_subcommand account; and __fish_seen_subcommand_from reports" -l limit -d 'How many at most' -r
complete -c homeroom -n "__fish_homeroom_using_subcommand account; and __fish_seen_subcommand_from reports" -l profile -d 'Profile to use: each has its own account, keys, messages and node' -r
complete -c homeroom -n "__fish_homeroom_using_subcommand account; and __fish_seen_subcommand_from reports" -l config -d 'Read settings from this file only, instead of the ones in the configuration directory' -r -F
complete -c homeroom -n "__fish_homeroom_using_subcommand account; and __fish_seen_subcommand_from reports" -s c -l set -d 'Set one setting for this run, such as `ui.theme=light`; may be given several times' -r
complete -c homeroom -n "__fish_homeroom_using_subcommand account; and __fish_seen_subcommand_from reports" -l json -d 'Print JSON'
complete -c homeroom -n "__fish_homeroom_using_subcommand account; and __fish_seen_subcommand_from reports" -s h -l help -d 'Print help'
complete -c homeroom -n "__fish_homeroom_using_subcommand account; and __fish_seen_subcommand_from troubles" -l profile -d 'Profile to use: each has its own account, keys, messages and node' -r
complete -c homeroom -n "__fish_homeroom_using_subcommand account; and __fish_seen_subcommand_from troubles" -l config -d 'Read settings from this file only, instead of the ones in the configuration directory' -r -F
complete -c homeroom -n "__fish_homeroom_using_subcommand account; and __fish_seen_subcommand_from troubles" -s c -l set -d 'Set one setting for this run, such as `ui.theme=light`; may be given several times' -r
complete -c homeroom -n "__fish_homeroom_using_subcommand account; and __fish_seen_subcommand_from troubles" -l json -d 'Print JSON'
complete -c homeroom -n "__fish_homeroom_using_subcommand account; and __fish_seen_subcommand_from troubles" -s h -l help -d 'Print help'
complete -c homeroom -n "__fish_homeroom_using_subcommand account; and __fish_seen_subcommand_from invites" -l release -d 'Let a user\'s invite to a room through' -r
complete -c homeroom -n "__fish_homeroom_using_subcommand account; and __fish_seen_subcommand_from invites" -l reject -d 'Turn a user\'s invite to a room down' -r
complete -c homeroom -n "__fish_homeroom_using_subcommand account; and __fish_seen_subcommand_from invites" -l limit -d 'How many are shown at most' -r
complete -c homeroom -n "__fish_homeroom_using_subcommand account; and __fish_seen_subcommand_from invites" -l profile -d 'Profile to use: each has its own account, keys, messages and node' -r
complete -c homeroom -n "__fish_homeroom_using_subcommand account; and __fish_seen_subcommand_from invites" -l config -d 'Read settings from this file only, instead of the ones in the configuration directory' -r -F
complete -c homeroom -n "__fish_homeroom_using_subcommand account; and __fish_seen_subcommand_from invites" -s c -l set -d 'Set one setting for this run, such as `ui.theme=light`; may be given several times' -r
complete -c homeroom -n "__fish_homeroom_using_subcommand account; and __fish_seen_subcommand_from invites" -l json -d 'Print JSON'
complete -c homeroom -n "__fish_homeroom_using_subcommand account; and __fish_seen_subcommand_from invites" -s h -l help -d 'Print help'
complete -c homeroom -n "__fish_homeroom_using_subcommand account; and __fish_seen_subcommand_from help" -f -a "create" -d 'Create an account on the profile\'s own node, whether it runs or not'
complete -c homeroom -n "__fish_homeroom_using_subcommand account; and __fish_seen_subcommand_from help" -f -a "token" -d 'Make a registration token, for a node with `registration = "token"`'
complete -c homeroom -n "__fish_homeroom_using_subcommand account; and __fish_seen_subcommand_from help" -f -a "new-key" -d 'Make a new signing key for the node, when the old one may have been seen by others; the old one is published as past'
complete -c homeroom -n "__fish_homeroom_using_subcommand account; and __fish_seen_subcommand_from help" -f -a "reports" -d 'Show what users of the node have reported to its owner, newest first'
complete -c homeroom -n "__fish_homeroom_using_subcommand account; and __fish_seen_subcommand_from help" -f -a "troubles" -d 'Show what does not work: push gateways and application services that take nothing'
complete -c homeroom -n "__fish_homeroom_using_subcommand account; and __fish_seen_subcommand_from help" -f -a "invites" -d 'Show the invites that are held (setting node.hold_strangers), or decide about one'
complete -c homeroom -n "__fish_homeroom_using_subcommand account; and __fish_seen_subcommand_from help" -f -a "help" -d 'Print this message or the help of the given subcommand(s)'
complete -c homeroom -n "__fish_homeroom_using_subcommand doctor" -l via -d 'The server that is asked to look at our node from outside' -r
complete -c homeroom -n "__fish_homeroom_using_subcommand doctor" -l profile -d 'Profile to use: each has its own account, keys, messages and node' -r
complete -c homeroom -n "__fish_homeroom_using_subcommand doctor" -l config -d 'Read settings from this file only, instead of the ones in the configuration directory' -r -F
complete -c homeroom -n "__fish_homeroom_using_subcommand doctor" -s c -l set -d 'Set one setting for this run, such as `ui.theme=light`; may be given several times' -r
complete -c homeroom -n "__fish_homeroom_using_subcommand doctor" -l json -d 'Print JSON'
complete -c homeroom -n "__fish_homeroom_using_subcommand doctor" -s h -l help -d 'Print help'
complete -c homeroom -n "__fish_homeroom_using_subcommand config" -l profile -d 'Profile to use: each has its own account, keys, messages and node' -r
complete -c homeroom -n "__fish_homeroom_using_subcommand config" -l config -d 'Read settings from this file only, instead of the ones in the configuration directory' -r -F
complete -c homeroom -n "__fish_homeroom_using_subcommand config" -s c -l set -d 'Set one setting for this run, such as `ui.theme=light`; may be given several times' -r
complete -c homeroom -n "__fish_homeroom_using_subcommand config" -l describe -d 'Print a configuration file that explains every setting, each with its default'
complete -c homeroom -n "__fish_homeroom_using_subcommand config" -l json -d 'Print JSON'
complete -c homeroom -n "__fish_homeroom_using_subcommand config" -l paths -d 'Print the directories and files of the profile instead'
complete -c homeroom -n "__fish_homeroom_using_subcommand config" -s h -l help -d 'Print help'
complete -c homeroom -n "__fish_homeroom_using_subcommand manual" -l out -d 'Write all pages into this directory instead' -r -f -a "(__fish_complete_directories)"
complete -c homeroom -n "__fish_homeroom_using_subcommand manual" -l picture -d 'Write the README\'s picture of the screen into this file instead' -r -F
complete -c homeroom -n "__fish_homeroom_using_subcommand manual" -l profile -d 'Profile to use: each has its own account, keys, messages and node' -r
complete -c homeroom -n "__fish_homeroom_using_subcommand manual" -l config -d 'Read settings from this file only, instead of the ones in the configuration directory' -r -F
complete -c homeroom -n "__fish_homeroom_using_subcommand manual" -s c -l set -d 'Set one setting for this run, such as `ui.theme=light`; may be given several times' -r
complete -c homeroom -n "__fish_homeroom_using_subcommand manual" -s h -l help -d 'Print help'
complete -c homeroom -n "__fish_homeroom_using_subcommand completions" -l out -d 'Write the scripts of bash, zsh and fish into this directory instead' -r -f -a "(__fish_complete_directories)"
complete -c homeroom -n "__fish_homeroom_using_subcommand completions" -l profile -d 'Profile to use: each has its own account, keys, messages and node' -r
complete -c homeroom -n "__fish_homeroom_using_subcommand completions" -l config -d 'Read settings from this file only, instead of the ones in the configuration directory' -r -F
complete -c homeroom -n "__fish_homeroom_using_subcommand completions" -s c -l set -d 'Set one setting for this run, such as `ui.theme=light`; may be given several times' -r
complete -c homeroom -n "__fish_homeroom_using_subcommand completions" -s h -l help -d 'Print help'
complete -c homeroom -n "__fish_homeroom_using_subcommand help; and not __fish_seen_subcommand_from demo serve login logout send tail rooms recovery-key account doctor config manual completions help" -f -a "demo" -d 'Look around: a throw-away node with people, rooms and a past'
complete -c homeroom -n "__fish_homeroom_using_subcommand help; and not __fish_seen_subcommand_from demo serve login logout send tail rooms recovery-key account doctor config manual completions help" -f -a "serve" -d 'Run the profile\'s own node without a screen, until SIGTERM or Ctrl+C'
complete -c homeroom -n "__fish_homeroom_using_subcommand help; and not __fish_seen_subcommand_from demo serve login logout send tail rooms recovery-key account doctor config manual completions help" -f -a "login" -d 'Sign in to a homeserver'
complete -c homeroom -n "__fish_homeroom_using_subcommand help; and not __fish_seen_subcommand_from demo serve login logout send tail rooms recovery-key account doctor config manual completions help" -f -a "logout" -d 'Sign out and delete this device\'s local data'
complete -c homeroom -n "__fish_homeroom_using_subcommand help; and not __fish_seen_subcommand_from demo serve login logout send tail rooms recovery-key account doctor config manual completions help" -f -a "send" -d 'Send a message'
complete -c homeroom -n "__fish_homeroom_using_subcommand help; and not __fish_seen_subcommand_from demo serve login logout send tail rooms recovery-key account doctor config manual completions help" -f -a "tail" -d 'Print messages as they arrive'
complete -c homeroom -n "__fish_homeroom_using_subcommand help; and not __fish_seen_subcommand_from demo serve login logout send tail rooms recovery-key account doctor config manual completions help" -f -a "rooms" -d 'List the rooms'
complete -c homeroom -n "__fish_homeroom_using_subcommand help; and not __fish_seen_subcommand_from demo serve login logout send tail rooms recovery-key account doctor config manual completions help" -f -a "recovery-key" -d 'Show the key that opens encrypted history on another device'
complete -c homeroom -n "__fish_homeroom_using_subcommand help; and not __fish_seen_subcommand_from demo serve login logout send tail rooms recovery-key account doctor config manual completions help" -f -a "account" -d 'Manage accounts on the profile\'s own node'
complete -c homeroom -n "__fish_homeroom_using_subcommand help; and not __fish_seen_subcommand_from demo serve login logout send tail rooms recovery-key account doctor config manual completions help" -f -a "doctor" -d 'Look at the node as other servers see it, or at another server: names, certificates, keys, clocks'
complete -c homeroom -n "__fish_homeroom_using_subcommand help; and not __fish_seen_subcommand_from demo serve login logout send tail rooms recovery-key account doctor config manual completions help" -f -a "config" -d 'Print the settings in force and where each comes from'
complete -c homeroom -n "__fish_homeroom_using_subcommand help; and not __fish_seen_subcommand_from demo serve login logout send tail rooms recovery-key account doctor config manual completions help" -f -a "manual" -d 'Show a manual page, or write all of them'
complete -c homeroom -n "__fish_homeroom_using_subcommand help; and not __fish_seen_subcommand_from demo serve login logout send tail rooms recovery-key account doctor config manual completions help" -f -a "completions" -d 'Print a completion script for a shell'
complete -c homeroom -n "__fish_homeroom_using_subcommand help; and not __fish_seen_subcommand_from demo serve login logout send tail rooms recovery-key account doctor config manual completions help" -f -a "help" -d 'Print this message or the help of the given subcommand(s)'
complete -c homeroom -n "__fish_homeroom_using_subcommand help; and __fish_seen_subcommand_from account" -f -a "create" -d 'Create an account on the profile\'s own node, whether it runs or not'
complete -c homeroom -n "__fish_homeroom_using_subcommand help; and __fish_seen_subcommand_from account" -f -a "token" -d 'Make a registration token, for a node with `registration = "token"`'
complete -c homeroom -n "__fish_homeroom_using_subcommand help; and __fish_seen_subcommand_from account" -f -a "new-key" -d 'Make a new signing key for the node, when the old one may have been seen by others; the old one is published as past'
complete -c homeroom -n "__fish_homeroom_using_subcommand help; and __fish_seen_subcommand_from account" -f -a "reports" -d 'Show what users of the node have reported to its owner, newest first'
complete -c homeroom -n "__fish_homeroom_using_subcommand help; and __fish_seen_subcommand_from account" -f -a "troubles" -d 'Show what does not work: push gateways and application services that take nothing'
complete -c homeroom -n "__fish_homeroom_using_subcommand help; and __fish_seen_subcommand_from account" -f -a "invites" -d 'Show the invites that are held (setting node.hold_strangers), or decide about one'
