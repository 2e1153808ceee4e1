"""What a run may ask a person for: pydantic models, and types that pydantic reads.

    class Order(RunInput):
        size: Literal["S", "M", "L"]
        express: bool = False

    order = pause_flow_run(wait_for_input=Order.with_initial_data(description="Which?", size="M"))

The answer is read in the process in which the model is, strictly by the model: a field
that it does not have is refused too, unless its config says otherwise. What is returned
is an instance of the very class that was asked for.

pydantic is imported with this module, which is imported when a run asks for input.
"""

from __future__ import annotations

import json
import types
from copy import copy
from typing import Annotated, Any, ClassVar, Self, get_origin

from pydantic import (
    BaseModel,
    ConfigDict,
    PydanticUserError,
    RootModel,
    ValidationError,
    create_model,
)
from pydantic_core import PydanticSerializationError, to_json

from jupyter_flows.errors import InvalidInput

LONGEST_SCHEMA = 30_000  # characters, as it travels with every change of the run
_MOST_COMPLAINTS = 10  # that are told of one input
_LONGEST_COMPLAINT = 300  # characters


class RunInput(BaseModel):
    """The base of models that a run asks people for, as Prefect's.

    Any pydantic model will do; this one can be given initial data for one question.
    """

    model_config = ConfigDict(extra="forbid")

    _description: ClassVar[str | None] = None
    _asked_for: ClassVar[type[BaseModel] | None] = None

    @classmethod
    def with_initial_data(cls, description: str | None = None, **initial: Any) -> type[Self]:
        """Return this model with other defaults, and a description, for one question.

        Args:
            description: what the person is told above the form.
            initial: what the fields hold at first, by their names.
        """
        fields: dict[str, Any] = {}
        for name, value in initial.items():
            field = cls.model_fields.get(name)
            if field is None:
                fields[name] = (type(value), value)
                continue
            field = copy(field)
            field.default_factory = None
            field._attributes_set = {
                key: given
                for key, given in field._attributes_set.items()
                if key not in ("default", "default_factory")
            }
            fields[name] = (Annotated[field.annotation, field], value)
        model: Any = create_model(
            cls.__name__, __base__=cls, __doc__=cls.__doc__, __module__=cls.__module__, **fields
        )
        if initial.keys() <= cls.model_fields.keys():
            model._asked_for = vars(cls).get("_asked_for") or cls
        if description is not None:
            model._description = description
        filled: type[Self] = model
        return filled


class Expected:
    """What a run waits for: how people see it, and how their answer is read."""

    def __init__(self, model: type[BaseModel], asked_for: type[BaseModel] | None) -> None:
        self._model = model
        self._asked_for = asked_for  # None for a type: its value is what the run gets
        name = model.__name__
        try:
            schema = json.dumps(model.model_json_schema(), default=str)
        except PydanticUserError as error:
            raise TypeError(
                f"wait_for_input: {name} has no JSON schema: {error.message}."
            ) from None
        if len(schema) > LONGEST_SCHEMA:
            raise TypeError(
                f"wait_for_input: the JSON schema of {name} is {len(schema):,} characters long, "
                f"more than {LONGEST_SCHEMA:,}. Ask for less at once."
            )
        self.schema: dict[str, Any] = json.loads(schema)
        self.initial = _initial(model)
        self.description: str | None = getattr(model, "_description", None)

    @classmethod
    def of(cls, wanted: Any) -> Expected:
        """Return what a run waits for that is to be given `wanted`.

        Raises:
            TypeError: it is neither a pydantic model nor a type that pydantic reads.
        """
        if isinstance(wanted, type) and issubclass(wanted, BaseModel):
            return cls(_strict(wanted), vars(wanted).get("_asked_for") or wanted)
        of_typing = get_origin(wanted) or type(wanted).__module__ in ("typing", "types")
        if isinstance(wanted, type) or of_typing:
            name = getattr(wanted, "__name__", None) or str(wanted)
            config = ConfigDict(extra="forbid")
            try:
                return cls(create_model(name, __config__=config, value=(wanted, ...)), None)
            except PydanticUserError:
                pass
        raise TypeError(
            "wait_for_input must be a pydantic model or a type that pydantic reads, "
            f"not {wanted!r}."
        )

    def read(self, text: str) -> Any:
        """Read an answer, given as JSON: ``null`` is none, for which the defaults stand.

        Raises:
            InvalidInput: it does not fit; names the fields.
        """
        answer = json.loads(text)
        if self._asked_for is None and not (isinstance(answer, dict) and [*answer] == ["value"]):
            answer = {} if answer is None else {"value": answer}
        try:
            given = self._model.model_validate_json(json.dumps({} if answer is None else answer))
        except ValidationError as error:
            raise InvalidInput(f"{_complaints(error)} The run waits on.") from None
        except (Exception, SystemExit) as error:  # of a validator of theirs
            raise InvalidInput(
                f"A validator of {self._model.__name__} failed: {type(error).__name__}: "
                f"{_one_line(str(error))}. The run waits on."
            ) from None
        if self._asked_for is None:
            return given.value  # type: ignore[attr-defined]
        if type(given) is not self._asked_for:
            object.__setattr__(given, "__class__", self._asked_for)
        return given


def _strict(model: type[BaseModel]) -> type[BaseModel]:
    """Return a model that refuses fields that it does not have, unless it says what of them."""
    if "extra" in model.model_config or issubclass(model, RootModel):
        return model
    strict: type[BaseModel] = types.new_class(
        model.__name__,
        (model,),
        exec_body=lambda names: names.update(
            model_config=ConfigDict(extra="forbid"),
            __module__=model.__module__,
            __doc__=model.__doc__,
        ),
    )
    return strict


def _initial(model: type[BaseModel]) -> dict[str, Any]:
    """Return the fields' defaults, as JSON has them, by the names that an answer has."""
    found: dict[str, Any] = {}
    for name, field in model.model_fields.items():
        if field.is_required() or issubclass(model, RootModel):
            continue
        try:
            value = json.loads(to_json(field.get_default(call_default_factory=True)))
        except (PydanticSerializationError, TypeError, ValueError):
            continue
        key = field.validation_alias if isinstance(field.validation_alias, str) else field.alias
        found[key or name] = value
    return found if len(json.dumps(found)) <= LONGEST_SCHEMA else {}


def _complaints(error: ValidationError) -> str:
    """Say in one line what does not fit, and where."""
    told = error.errors(include_url=False, include_context=False, include_input=False)
    lines = []
    for each in told[:_MOST_COMPLAINTS]:
        message = _one_line(each["msg"].removeprefix("Value error, "))
        where = ".".join(map(str, each["loc"]))
        lines.append(f"{where}: {message}" if where else message)
    if len(told) > _MOST_COMPLAINTS:
        lines.append(f"and {len(told) - _MOST_COMPLAINTS} more")
    return f"The input does not fit: {'; '.join(lines)}."


def _one_line(text: str) -> str:
    line = " ".join(text.split()).removesuffix(".")
    return line if len(line) <= _LONGEST_COMPLAINT else f"{line[:_LONGEST_COMPLAINT]}…"
