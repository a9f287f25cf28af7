"""For tests of environments, servers and policies, yours and ours; nothing here is used while training.

conformance     check_env: does an environment or a server keep what the pool builds upon?
checks          what it checks, one function each
subject         the environment under test, and walks through it
report          what was found
live_server     the server of `envpool serve` in a thread; original, how it looks like AgentGym's own
scripted_server odd and recorded answers
fault_proxy     a proxy that drops, delays, cuts, mixes up and kills by a seed
faults          what it may do
http1           HTTP/1.1 over trio
scripted        a policy that plays what it was given
"""

from envpool.testing.conformance import add_check_command, check, check_env
from envpool.testing.fault_proxy import FaultProxy
from envpool.testing.faults import Fault
from envpool.testing.http1 import Client, Lost, Response
from envpool.testing.live_server import LiveServer
from envpool.testing.report import Check, Report, Verdict, format_report
from envpool.testing.scripted import ScriptedPolicy
from envpool.testing.scripted_server import ScriptedServer

__all__ = [
    "Check",
    "Client",
    "Fault",
    "FaultProxy",
    "LiveServer",
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
