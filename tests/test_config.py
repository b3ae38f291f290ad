"""The settings and their layers."""

from __future__ import annotations

import math
import typing
from pathlib import Path

import attrs
import pytest

from trio_stomp.config import (
    KIB,
    MIB,
    SECTIONS,
    BrokerConfig,
    ClientConfig,
    DrainConfig,
    HttpConfig,
    OutboxConfig,
    PoolConfig,
    ProxyConfig,
    ServerConfig,
    StompConfig,
    limits,
    settings_of,
)
from trio_stomp.errors import ConfigError
from trio_stomp.settings import load_config, settings_table

ALL_SECTIONS = (*SECTIONS, ("pools", PoolConfig), ("client", ClientConfig))


@pytest.fixture
def toml(tmp_path: Path) -> typing.Callable[[str], Path]:
    def write(text: str) -> Path:
        file = tmp_path / "settings.toml"
        file.write_text(text, encoding="utf-8")
        return file

    return write


class TestSections:
    def test_defaults_are_those_of_the_issue(self) -> None:
        config = ServerConfig()
        assert (config.http.head_bytes, config.http.head_timeout) == (16 * KIB, 5.0)
        assert config.stomp.connect_timeout == 10.0
        assert (config.stomp.body_before_connected, config.stomp.body) == (64 * KIB, 4 * MIB)
        assert (config.stomp.header_line, config.stomp.headers) == (16 * KIB, 256)
        assert config.stomp.subscriptions == 1000
        assert (config.outbox.bytes, config.outbox.write_timeout) == (512 * KIB, 10.0)
        assert (config.stomp.heart_beat_send, config.stomp.heart_beat_receive) == (10.0, 10.0)
        assert config.broker.inbox == 4096
        assert (config.host, config.port, config.path) == ("127.0.0.1", 8080, "/ws")

    @pytest.mark.parametrize(("_name", "section"), ALL_SECTIONS)
    def test_every_setting_says_its_unit_meaning_and_reason(self, _name: str, section: type) -> None:
        for attribute, about in settings_of(section):
            assert about.unit in ("bytes", "seconds", "count", ""), attribute.name
            assert about.meaning, attribute.name
            assert len(about.reason) > 10, attribute.name

    @pytest.mark.parametrize(("_name", "section"), ALL_SECTIONS)
    def test_every_bound_accepts_itself_and_refuses_what_is_beyond(self, _name: str, section: type) -> None:
        needed: dict[str, object] = {"delay": 0, "window": 0} if section is DrainConfig else {}
        for attribute, about in settings_of(section):
            if about.low is not None:
                section(**{**needed, attribute.name: about.low})
                with pytest.raises(ConfigError, match=rf"{attribute.name} is .*, expected at least"):
                    section(**{**needed, attribute.name: about.low - 1})
            if about.high is not None:
                section(**{**needed, attribute.name: about.high})
                with pytest.raises(ConfigError, match=rf"{attribute.name} is .*, expected at most"):
                    section(**{**needed, attribute.name: about.high + 1})

    @pytest.mark.parametrize(("_name", "section"), ALL_SECTIONS)
    def test_every_number_has_a_lower_bound(self, _name: str, section: type) -> None:
        hints = typing.get_type_hints(section)
        for attribute, about in settings_of(section):
            if hints[attribute.name] in (int, float):
                assert about.low is not None, attribute.name

    def test_no_number_is_refused(self) -> None:
        with pytest.raises(ConfigError, match="not a number"):
            HttpConfig(head_timeout=math.nan)

    def test_infinity_turns_a_timeout_off(self) -> None:
        assert OutboxConfig(write_timeout=math.inf).write_timeout == math.inf

    def test_config_cannot_be_changed(self) -> None:
        config = ServerConfig(static={"/": "page"}, pools={"payments": PoolConfig(threads=2)})
        with pytest.raises(attrs.exceptions.FrozenInstanceError):
            config.port = 1  # type: ignore[misc]  # that is the test
        with pytest.raises(TypeError):
            config.static["/x"] = "y"  # type: ignore[index]  # that is the test
        with pytest.raises(TypeError):
            config.pools["x"] = PoolConfig(threads=1)  # type: ignore[index]  # that is the test

    def test_config_keeps_its_own_copy_of_what_it_is_given(self) -> None:
        static = {"/": "page"}
        config = ServerConfig(static=static)
        static["/secret"] = "/etc"
        assert dict(config.static) == {"/": "page"}

    @pytest.mark.parametrize(
        ("values", "text"),
        [
            ({"path": "ws"}, "begins with '/'"),
            ({"log_level": "loud"}, "expected one of debug, info, warning, error"),
            ({"tls_cert": "cert.pem"}, "together or not at all"),
            ({"tls_key": "key.pem"}, "together or not at all"),
            ({"static": {"lib": "node_modules"}}, "beginning with '/'"),
            ({"origins": "https://example.com"}, "expected a sequence of strings"),
            ({"tcp_port": 65536}, "tcp_port is 65536"),
        ],
    )
    def test_values_that_do_not_fit_are_refused(self, values: dict[str, typing.Any], text: str) -> None:
        with pytest.raises(ConfigError, match=text):
            ServerConfig(**values)

    def test_separator_is_slash_or_dot(self) -> None:
        assert StompConfig(separator=".").separator == "."
        with pytest.raises(ConfigError, match="separator"):
            StompConfig(separator="::")

    def test_a_proxy_is_believed_only_where_it_is_named(self) -> None:
        assert ProxyConfig(protocol=True, trusted=("10.0.0.0/8", "::1")).protocol
        with pytest.raises(ConfigError, match="trusted names no proxy"):
            ProxyConfig(protocol=True)

    @pytest.mark.parametrize("network", ["10.0.0.1/8", "proxy.example.com", "10.0.0.0/33", ""])
    def test_what_is_no_network_is_refused(self, network: str) -> None:
        with pytest.raises(ConfigError, match=r"expected a network as '10\.0\.0\.0/8'"):
            ProxyConfig(trusted=("::1", network))

    def test_one_prefix_string_is_not_taken_for_many(self) -> None:
        with pytest.raises(ConfigError, match="sequence"):
            BrokerConfig(prefixes="/topic")  # type: ignore[arg-type]  # that is the test

    def test_limits_are_named_after_their_settings(self) -> None:
        assert {"http.head_bytes", "stomp.body", "outbox.bytes", "broker.inbox", "pools.queue"} <= set(
            limits()
        )
        assert len(limits()) == len(set(limits()))


class TestLayers:
    def test_nothing_given_is_the_defaults(self) -> None:
        assert load_config(environ={}, overrides={}) == ServerConfig()

    def test_later_layers_win_setting_by_setting(self, toml: typing.Callable[[str], Path]) -> None:
        file = toml('host = "file"\nport = 1\npath = "/file"\n[outbox]\nmessages = 1\nbytes = "1MiB"\n')
        environ = {
            "TRIO_STOMP_PORT": "2",
            "TRIO_STOMP_PATH": "/environment",
            "TRIO_STOMP_OUTBOX_MESSAGES": "2",
        }
        config = load_config(
            file=file, environ=environ, overrides={"path": "/option", "outbox.messages": "3"}
        )
        assert (config.host, config.port, config.path) == ("file", 2, "/option")
        assert (config.outbox.bytes, config.outbox.messages) == (MIB, 3)
        assert config.outbox.write_timeout == 10.0

    def test_same_arguments_give_the_same_config(self, toml: typing.Callable[[str], Path]) -> None:
        file, environ = toml("port = 1\n"), {"TRIO_STOMP_HOST": "h"}
        assert load_config(file=file, environ=environ) == load_config(file=file, environ=environ)
        assert environ == {"TRIO_STOMP_HOST": "h"}

    def test_other_variables_are_none_of_our_business(self) -> None:
        assert load_config(environ={"PORT": "1", "TRIO": "x", "STOMP_PORT": "y"}) == ServerConfig()

    def test_empty_variable_counts_as_not_set(self) -> None:
        assert load_config(environ={"TRIO_STOMP_PORT": ""}).port == 8080

    def test_option_none_counts_as_not_given(self) -> None:
        assert load_config(environ={"TRIO_STOMP_PORT": "1"}, overrides={"port": None}).port == 1

    def test_every_setting_has_a_variable_of_its_own(self) -> None:
        names = [name for name, *_ in settings_table()]
        variables = {name.replace(".", "_").upper() for name in names}
        assert len(names) == len(variables)

    @pytest.mark.parametrize("name", [name for name, *_ in settings_table() if "NAME" not in name])
    def test_every_setting_is_reached_by_its_name_in_each_layer(
        self, name: str, toml: typing.Callable[[str], Path]
    ) -> None:
        section, _, key = name.rpartition(".")
        default = getattr(ServerConfig() if not section else getattr(ServerConfig(), section), key)
        special = {
            **{"path": "/x", "log_level": "debug", "stomp.separator": ".", "static": {"/": "page"}},
            **{"fd": 3, "reuse_port": True, "drain.deadline": 30.5, "tcp_port": 1, "tcp_fd": 4},
            **{"proxy.trusted": ("10.0.0.0/8", "::1")},
        }
        value = special.get(
            name, {int: 300, float: 3.5, bool: False, tuple: ("x", "y")}.get(type(default), "x")
        )
        if name == "websocket.receive_ahead" or name == "websocket.message" or name == "outbox.bytes":
            value = 2048
        values = {"tls_cert": "x", "tls_key": "x"} if name.startswith("tls_") else {name: value}
        text = {k: _as_text(v) for k, v in values.items()}
        prefix = f"[{section}]\n" if section else ""
        document = prefix + "".join(f"{k.rpartition('.')[2]} = {_as_toml(v)}\n" for k, v in values.items())
        configs = [
            load_config(file=toml(document), environ={}),
            load_config(environ={f"TRIO_STOMP_{k.replace('.', '_').upper()}": v for k, v in text.items()}),
            load_config(environ={}, overrides=text),
            load_config(environ={}, overrides=values),
        ]
        for config in configs:
            assert getattr(getattr(config, section) if section else config, key) == value

    def test_pools_are_named_by_the_user(self, toml: typing.Callable[[str], Path]) -> None:
        file = toml("[pools.payments]\nthreads = 32\n[pools.slow_reports]\nthreads = 1\nqueue = 5\n")
        environ = {"TRIO_STOMP_POOLS_SLOW_REPORTS_QUEUE_TIMEOUT": "2.5", "TRIO_STOMP_POOLS_API_THREADS": "4"}
        config = load_config(file=file, environ=environ, overrides={"pools.payments.threads": "16"})
        assert dict(config.pools) == {
            "payments": PoolConfig(threads=16),
            "slow_reports": PoolConfig(threads=1, queue=5, queue_timeout=2.5),
            "api": PoolConfig(threads=4),
        }

    def test_pool_may_set_one_thing_and_leave_the_rest_to_the_app(
        self, toml: typing.Callable[[str], Path]
    ) -> None:
        config = load_config(file=toml("[pools.payments]\nqueue = 5\n"), environ={})
        assert config.pools["payments"] == PoolConfig(queue=5)

    def test_pool_of_an_unknown_mode_is_refused(self, toml: typing.Callable[[str], Path]) -> None:
        with pytest.raises(
            ConfigError,
            match=r"settings.toml, pools.p.mode: PoolConfig.mode is 'fast', expected one of fixed, observe",
        ):
            load_config(file=toml('[pools.p]\nmode = "fast"\n'), environ={})

    @pytest.mark.parametrize(
        ("text", "size"),
        [("512KiB", 512 * KIB), ("4 MiB", 4 * MIB), ("1GiB", 1024 * MIB), ("2048", 2048), ("4096B", 4096)],
    )
    def test_sizes_may_have_a_unit(self, text: str, size: int, toml: typing.Callable[[str], Path]) -> None:
        assert load_config(environ={"TRIO_STOMP_OUTBOX_BYTES": text}).outbox.bytes == size
        assert load_config(environ={}, overrides={"outbox.bytes": text}).outbox.bytes == size
        assert load_config(file=toml(f'outbox.bytes = "{text}"'), environ={}).outbox.bytes == size

    @pytest.mark.parametrize("text", ["4MB", "4k", "1.5MiB", "-1", "MiB", "", "٣"])
    def test_sizes_written_otherwise_are_refused(self, text: str, toml: typing.Callable[[str], Path]) -> None:
        with pytest.raises(ConfigError, match="512KiB"):
            load_config(file=toml(f'outbox.bytes = "{text}"'), environ={})

    def test_paths_are_taken_as_they_are(self) -> None:
        config = load_config(environ={}, overrides={"tls_cert": Path("a/b.pem"), "tls_key": Path("c.pem")})
        assert (config.tls_cert, config.tls_key) == (str(Path("a/b.pem")), "c.pem")

    def test_static_directories_as_text(self) -> None:
        config = load_config(environ={"TRIO_STOMP_STATIC": "/=page, /lib=node_modules"})
        assert dict(config.static) == {"/": "page", "/lib": "node_modules"}


class TestMistakes:
    @pytest.mark.parametrize(
        ("document", "text"),
        [
            ("prot = 1", r"settings.toml: there is no setting 'prot'; the nearest is 'port'"),
            ("[outbox]\nbites = 1", r"there is no setting 'outbox.bites'; the nearest is 'outbox.bytes'"),
            ("[outboks]\nbytes = 1", r"there is no setting 'outboks'; the nearest is 'outbox.bytes'"),
            (
                "[pools.x]\nthread = 1",
                r"there is no setting 'pools.x.thread'; the nearest is 'pools.x.threads'",
            ),
            ("[pools]\nx = 1", r"pools.x is 1, expected a table"),
            ("pools = 1", r"there is no setting 'pools'"),
            ("outbox = 1", r"there is no setting 'outbox'"),
            ("port = true", r"settings.toml, port: True is not fit for port, expected a whole number"),
            ('port = "80"', r"'80' is not fit for port, expected a whole number"),
            ("port = 80.0", r"80.0 is not fit for port, expected a whole number"),
            ("port = 65536", r"settings.toml, port: ServerConfig.port is 65536, expected at most 65535"),
            ("host = 1", r"1 is not fit for host, expected a string"),
            ("[http]\nhead_timeout = 'soon'", r"http.head_timeout: 'soon' is not fit .* expected a number"),
            ("[http]\nhead_timeout = true", r"True is not fit for head_timeout, expected a number"),
            ("[websocket]\nfast_path = 1", r"1 is not fit for fast_path, expected true or false"),
            ("origins = [1]", r"\[1\] is not fit for origins, expected a list of strings"),
            ('origins = "a"', r"'a' is not fit for origins, expected a list of strings"),
            ('static = ["page"]', r"is not fit for static, expected URL prefixes with directories"),
            ("static = 1", r"is not fit for static, expected URL prefixes with directories"),
            ("port = ", r"settings.toml is not TOML"),
        ],
    )
    def test_mistake_in_the_file_is_named(
        self, document: str, text: str, toml: typing.Callable[[str], Path]
    ) -> None:
        with pytest.raises(ConfigError, match=text):
            load_config(file=toml(document), environ={})

    @pytest.mark.parametrize(
        ("variable", "value", "text"),
        [
            (
                "PROT",
                "1",
                "variable TRIO_STOMP_PROT: there is no such setting; the nearest is TRIO_STOMP_PORT",
            ),
            ("OUTBOX_BITES", "1", "the nearest is TRIO_STOMP_OUTBOX_BYTES"),
            ("POOLS_THREADS", "1", "the nearest is TRIO_STOMP_POOLS_NAME_THREADS"),
            ("PORT", "http", "variable TRIO_STOMP_PORT: 'http' is not fit for port, expected a whole number"),
            ("PORT", "-1", "variable TRIO_STOMP_PORT: ServerConfig.port is -1, expected at least 0"),
            ("STOMP_CONNECT_TIMEOUT", "10s", "expected a number"),
            ("STOMP_CONNECT_TIMEOUT", "nan", "variable TRIO_STOMP_STOMP_CONNECT_TIMEOUT: .* not a number"),
            ("WEBSOCKET_FAST_PATH", "maybe", "expected true or false"),
            ("STATIC", "page", "expected URL prefixes"),
            ("TLS_CERT", "x", "variable TRIO_STOMP_TLS_CERT: .* together or not at all"),
        ],
    )
    def test_mistake_in_the_environment_is_named(self, variable: str, value: str, text: str) -> None:
        with pytest.raises(ConfigError, match=text):
            load_config(environ={f"TRIO_STOMP_{variable}": value})

    @pytest.mark.parametrize(
        ("name", "value", "text"),
        [
            ("outbox.bites", 1, "option 'outbox.bites': there is no setting 'outbox.bites'"),
            ("port", "x", "option 'port': 'x' is not fit for port"),
            (
                "outbox.bytes",
                1,
                "option 'outbox.bytes': OutboxConfig.bytes is 1, expected at least 1024 bytes",
            ),
            ("pools..threads", 1, "there is no setting"),
            ("pools.a.b.threads", 1, "there is no setting"),
            ("static", {"/": 1}, "is not fit for static"),
        ],
    )
    def test_mistake_on_the_command_line_is_named(self, name: str, value: object, text: str) -> None:
        with pytest.raises(ConfigError, match=text):
            load_config(environ={}, overrides={name: value})

    def test_only_the_setting_at_fault_is_named(self) -> None:
        environ = {"TRIO_STOMP_STOMP_BODY": "1", "TRIO_STOMP_STOMP_BODY_BEFORE_CONNECTED": "1"}
        with pytest.raises(ConfigError, match=r"^option 'stomp.headers': StompConfig.headers is 1"):
            load_config(environ=environ, overrides={"stomp.headers": 1})

    def test_missing_file_is_named(self, tmp_path: Path) -> None:
        with pytest.raises(ConfigError, match=r"cannot read the settings file .*none.toml: No such file"):
            load_config(file=tmp_path / "none.toml", environ={})

    def test_file_that_is_not_utf8_is_named(self, tmp_path: Path) -> None:
        file = tmp_path / "latin.toml"
        file.write_bytes(b'host = "\xe4"')
        with pytest.raises(ConfigError, match=r"latin.toml is not TOML"):
            load_config(file=file, environ={})


class TestTable:
    def test_rows_are_name_default_unit_and_meaning(self) -> None:
        rows = {name: (default, unit) for name, default, unit, _ in settings_table()}
        assert rows["port"] == ("8080", "")
        assert rows["stomp.body"] == ("4 MiB", "bytes")
        assert rows["outbox.write_timeout"] == ("10", "seconds")
        assert rows["broker.prefixes"] == ("/topic, /queue", "")
        assert rows["origins"] == ("none", "")
        assert rows["static"] == ("none", "")
        assert rows["websocket.fast_path"] == ("true", "")
        assert rows["pools.NAME.threads"] == ("as declared", "count")
        assert rows["stomp.headers"] == ("256", "count")

    def test_readme_has_every_setting_as_it_is(self) -> None:
        """Between its marks the README's table is these very lines: paste them when this fails."""
        readme = Path(__file__).parent.parent / "README.md"
        if not readme.exists():
            pytest.skip("there is no README.md yet")
        rows = ["| setting | default | unit | meaning |", "|---|---|---|---|"]
        rows += [
            f"| `{name}` | {default} | {unit} | {text} |" for name, default, unit, text in settings_table()
        ]
        expected = "\n".join(rows)
        _, _, after = readme.read_text(encoding="utf-8").partition("<!-- settings -->\n")
        assert after.partition("<!-- /settings -->")[0].strip() == expected

    def test_each_meaning_is_one_line(self) -> None:
        for _, _, _, meaning in settings_table():
            assert "\n" not in meaning
            assert "|" not in meaning


def _as_text(value: object) -> str:
    if isinstance(value, tuple):
        return ",".join(value)
    if isinstance(value, dict):
        return ",".join(f"{prefix}={directory}" for prefix, directory in value.items())
    return str(value)


def _as_toml(value: object) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, tuple):
        return str(list(value))
    if isinstance(value, dict):
        return "{" + ", ".join(f'"{prefix}" = "{directory}"' for prefix, directory in value.items()) + "}"
    return f'"{value}"' if isinstance(value, str) else str(value)
