"""For tests of environments, servers and policies, yours and ours; nothing here is used while training.

conformance     check_env: does an environment or a server keep what the pool builds upon?
checks          what it checks, one function each
subject         the environment under test, and walks through it
report          what was found
fake_server     an environment over HTTP within a trio test; odd and recorded answers
worlds          what such a server answers
fault_proxy     a proxy that drops, delays, cuts, mixes up and kills by a seed
faults          what it may do
http1           HTTP/1.1 over trio
scripted        a policy that plays what it was given
"""

from envpool.testing.conformance import add_check_command, check, check_env
from envpool.testing.fake_server import FakeServer, ScriptedServer
from envpool.testing.fault_proxy import FaultProxy
from envpool.testing.faults import Fault
from envpool.testing.http1 import Client, Lost, Response
from envpool.testing.report import Check, Report, Verdict, format_report
from envpool.testing.scripted import ScriptedPolicy

__all__ = [
    "Check",
    "Client",
    "FakeServer",
    "Fault",
    "FaultProxy",
    "Lost",
    "Report",
    "Response",
    "ScriptedPolicy",
    "ScriptedServer",
    "Verdict",
    "add_check_command",
    "check",
    "check_env",
    "format_report",
]
