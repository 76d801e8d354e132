"""Workflows with a text for the methods section of a paper, where niworkflows is installed."""

from typing import Any

from nipype.pipeline import engine as pe

from brainchop_bids.system.errors import BrainchopError

try:
    from niworkflows.engine.workflows import LiterateWorkflow
except ImportError:

    class LiterateWorkflow(pe.Workflow):  # type: ignore[no-redef]
        """A Nipype workflow that takes the text and does not give it back."""

        __desc__: str | None = None

        def visit_desc(self) -> Any:
            """Raise an error that says what is missing."""
            raise BrainchopError(
                'the text of a workflow needs niworkflows; install it: pip install niworkflows'
            )


__all__ = ['LiterateWorkflow']
